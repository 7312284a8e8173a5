"""White noise only: A = I."""

from __future__ import annotations

from torch import Tensor

from operators.degradations.base import ForwardOperator


class Denoise(ForwardOperator):
    """y = x + n."""

    def apply(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return y

    def pinv(self, y: Tensor) -> Tensor:
        return y

    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        return (x + gamma * y) / (1.0 + gamma)

    def classical(self, y: Tensor) -> Tensor:
        return y
