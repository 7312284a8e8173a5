"""Over-exposure: highlights and shadows beyond what the medium holds."""

from __future__ import annotations

import torch
from torch import Tensor

from operators.degradations.base import NonlinearOperator
from operators.errors import OperatorError


class Clipping(NonlinearOperator):
    """y = clip(gain x, -1, 1): HDR reconstruction of RED-diff (Mardani et al. 2024) with ``gain`` 2.

    Contrast is stretched around mid-grey and clipped at both ends. The gradient vanishes where y is
    saturated. A^+ y = y / gain inverts what was not clipped. The prox is the global minimum per entry.
    """

    has_pinv = True
    has_prox = True

    def __init__(self, height: int, width: int, gain: float = 2.0) -> None:
        super().__init__(height, width)
        if not 1.0 <= gain <= 16.0:
            raise OperatorError(f"degradation.gain: {gain} is outside [1, 16]; 2 doubles the contrast")
        self.gain = gain

    def apply(self, x: Tensor) -> Tensor:
        return (self.gain * x).clamp(-1.0, 1.0)

    def pinv(self, y: Tensor) -> Tensor:
        return y / self.gain

    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        limit = 1.0 / self.gain
        # On each of the three pieces of A the objective is a parabola: take the best of their minima.
        linear = ((x + gamma * self.gain * y) / (1.0 + gamma * self.gain**2)).clamp(-limit, limit)
        candidates = torch.stack([linear, x.clamp_max(-limit), x.clamp_min(limit)])
        costs = gamma * (self.apply(candidates) - y).square() + (candidates - x).square()
        return candidates.gather(0, costs.argmin(0, keepdim=True))[0]

    def classical(self, y: Tensor) -> Tensor:
        return self.pinv(y)
