"""Degradations that leave part of a picture as it was and lose the rest: orthogonal projectors."""

from __future__ import annotations

from torch import Tensor

from operators.degradations.base import ForwardOperator


class Projection(ForwardOperator):
    """A = A^T = A^+ = A A. What ``apply`` takes away was not measured, whatever y holds there."""

    def adjoint(self, y: Tensor) -> Tensor:
        return self.apply(y)

    def pinv(self, y: Tensor) -> Tensor:
        return self.apply(y)

    def restrict(self, y: Tensor) -> Tensor:
        return self.apply(y)

    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        return x + gamma / (1.0 + gamma) * self.apply(y - x)
