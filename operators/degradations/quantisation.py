"""Too few grey levels: banding."""

from __future__ import annotations

import torch
from torch import Tensor

from operators.degradations.base import NonlinearOperator
from operators.errors import OperatorError


class Quantisation(NonlinearOperator):
    """y = x rounded to ``levels`` equidistant values on [-1, 1], per channel; x beyond is clipped.

    Autograd passes straight through the rounding and stops where x is clipped. The data term of
    ``prox`` is half the squared distance to the cell of pictures that round to y, as for JPEG; the end
    cells are open outwards.
    """

    has_pinv = True
    has_prox = True

    def __init__(self, height: int, width: int, levels: int) -> None:
        super().__init__(height, width)
        if not 2 <= levels <= 65536:
            raise OperatorError(f"degradation.levels: {levels} is outside [2, 65536]; 32 is 5 bits")
        self.levels = levels
        self.step = 2.0 / (levels - 1)

    def apply(self, x: Tensor) -> Tensor:
        inside = x.clamp(-1.0, 1.0)
        return inside + (self._codes(inside) * self.step - 1.0 - inside).detach()

    def pinv(self, y: Tensor) -> Tensor:
        return y

    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        return x + gamma / (1.0 + gamma) * (self.project(x, y) - x)

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The nearest picture to ``x`` that rounds to ``y``."""
        codes = self._codes(y.clamp(-1.0, 1.0))
        low = torch.where(codes > 0, (codes - 0.5) * self.step - 1.0, -torch.inf)
        high = torch.where(codes < self.levels - 1, (codes + 0.5) * self.step - 1.0, torch.inf)
        return torch.minimum(torch.maximum(x, low.to(x.dtype)), high.to(x.dtype))

    def classical(self, y: Tensor) -> Tensor:
        return y

    def _codes(self, x: Tensor) -> Tensor:
        return ((x + 1.0) / self.step).round()
