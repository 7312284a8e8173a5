"""Lost colour: A x = w^T x per pixel, one grey channel."""

from __future__ import annotations

import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.errors import OperatorError
from operators.luma import LUMA_WEIGHTS

MEAN_WEIGHTS = (1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0)


class Colorization(ForwardOperator):
    """y = w^T x, [B, 3, H, W] to [B, 1, H, W]; ``weights`` sum to one.

    A A^T = ||w||^2 I, A^+ y = w y / ||w||^2. A grey picture stored with three channels is reduced by
    ``restrict``.
    """

    def __init__(self, height: int, width: int, weights: tuple[float, float, float] = LUMA_WEIGHTS) -> None:
        super().__init__(height, width)
        if min(weights) < 0.0 or abs(sum(weights) - 1.0) > 1e-6:
            raise OperatorError(f"degradation.weights: {list(weights)} must not be negative and sum to one")
        self._weights = torch.tensor(weights, dtype=torch.float64).view(1, 3, 1, 1)
        self._power = float(self._weights.square().sum())

    @property
    def measured_shape(self) -> tuple[int, int, int]:
        return (1, self.height, self.width)

    def apply(self, x: Tensor) -> Tensor:
        return (self._like(x) * x).sum(1, keepdim=True)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._like(y) * y

    def pinv(self, y: Tensor) -> Tensor:
        return self.adjoint(y) / self._power

    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        # A A^T = c I gives prox = x - gamma / (1 + gamma c) A^T (A x - y).
        return x - gamma / (1.0 + gamma * self._power) * self.adjoint(self.apply(x) - y)

    def classical(self, y: Tensor) -> Tensor:
        """The grey picture, with three equal channels."""
        return self.restrict(y).expand(-1, 3, -1, -1)

    def restrict(self, y: Tensor) -> Tensor:
        return self.apply(y) if y.shape[1] == 3 else y

    def _like(self, x: Tensor) -> Tensor:
        return self._weights.to(x.dtype).to(x.device)
