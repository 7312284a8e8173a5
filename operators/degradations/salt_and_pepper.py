"""Impulse noise: a share of the pixels turned black or white."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.degradations.noise_models import ImpulseNoise

# A pixel counts as hit when all channels are at the same extreme and the median of its neighbourhood is
# further away than this, on [-1, 1]: black clothes and white skies are left alone.
EXTREME = 1.0 - 2.5 / 255.0
DEPARTURE = 0.15
RADIUS = 2


class SaltAndPepper(ForwardOperator):
    """y = x except where an impulse hit; solved as inpainting of the pixels that were detected.

    A = I. The data term of ``prox`` leaves detected pixels out: gamma/2 sum_{i kept} (u_i - y_i)^2.
    """

    quadratic = False

    def __init__(self, height: int, width: int, fraction: float, rest: float = 0.0) -> None:
        super().__init__(height, width)
        self.noise_model = ImpulseNoise(fraction, rest)

    def apply(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return y

    def pinv(self, y: Tensor) -> Tensor:
        return y

    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        return torch.where(impulses(y), x, (x + gamma * y) / (1.0 + gamma))

    def classical(self, y: Tensor) -> Tensor:
        """Detected pixels replaced by the median of their neighbours that were not."""
        hit = impulses(y)
        return torch.where(hit, _median_of(y, ~hit), y)


def impulses(y: Tensor) -> Tensor:
    """Which pixels of [B, 3, H, W] were hit, bool [B, 1, H, W]."""
    salt = (y >= EXTREME).all(1, keepdim=True)
    pepper = (y <= -EXTREME).all(1, keepdim=True)
    extreme = salt | pepper
    around = _median_of(y, ~extreme)
    return extreme & ((y - around).abs().amax(1, keepdim=True) > DEPARTURE)


def _median_of(y: Tensor, usable: Tensor) -> Tensor:
    """Per channel median over the square of RADIUS around each pixel, ``usable`` pixels only.

    Where none is usable, the pixel itself.
    """
    side = 2 * RADIUS + 1
    marked = torch.where(usable, y, torch.nan)
    padded = F.pad(marked, (RADIUS,) * 4, mode="replicate")
    windows = padded.unfold(2, side, 1).unfold(3, side, 1).flatten(4)
    median = windows.nanmedian(-1).values
    return torch.where(median.isnan(), y, median)
