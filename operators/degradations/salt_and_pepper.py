"""Impulse noise: a share of the pixels turned black or white."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.degradations.noise_models import ImpulseNoise

# A pixel is suspect when all channels are at the same extreme and differ by more than this, on [-1, 1], from
# the median of their neighbours.
EXTREME = 1.0 - 2.5 / 255.0
DEPARTURE = 0.15
RADIUS = 2
NEIGHBOURS = (2 * RADIUS + 1) ** 2 - 1
# The corner of a black or white area has this many neighbours of its own kind.
CORNER = (RADIUS + 1) ** 2 - 1


class SaltAndPepper(ForwardOperator):
    """y = x except where an impulse hit; solved as inpainting of the pixels that were detected.

    A = I. The data term of ``prox`` leaves detected pixels out: gamma/2 sum_{i kept} (u_i - y_i)^2.
    """

    quadratic = False
    complete = False

    def __init__(self, height: int, width: int, fraction: float, rest: float = 0.0) -> None:
        super().__init__(height, width)
        self.noise_model = ImpulseNoise(fraction, rest)
        self._fraction = fraction

    def apply(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return y

    def pinv(self, y: Tensor) -> Tensor:
        return y

    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        return torch.where(impulses(y, self._fraction), x, (x + gamma * y) / (1.0 + gamma))

    def classical(self, y: Tensor) -> Tensor:
        """Detected pixels replaced by the median of their neighbours that were not."""
        restored = y.clone()
        for row, hit in zip(restored, impulses(y, self._fraction)[:, 0], strict=True):
            places = hit.nonzero(as_tuple=True)
            row[:, *places] = _medians(row, ~hit, places)
        return restored


def impulses(y: Tensor, fraction: float) -> Tensor:
    """Which pixels of [B, 3, H, W] were hit, bool [B, 1, H, W].

    Extremes that belong to a black or white area are left alone: they have as many neighbours of their kind
    as its corner, and more than ``fraction`` impulses gather by chance (three standard deviations).
    """
    salt = (y >= EXTREME).all(1, keepdim=True)
    pepper = (y <= -EXTREME).all(1, keepdim=True)
    by_chance = NEIGHBOURS * fraction / 2.0
    area = max(CORNER, by_chance + 3.0 * math.sqrt(by_chance * (1.0 - fraction / 2.0)))
    lonely = (salt & (_count(salt) < area)) | (pepper & (_count(pepper) < area))
    hit = torch.zeros_like(lonely)
    for row, usable, suspect, found in zip(y, ~(salt | pepper), lonely, hit, strict=True):
        places = suspect[0].nonzero(as_tuple=True)
        departure = row[:, *places] - _medians(row, usable[0], places)
        found[0, *places] = departure.abs().amax(0) > DEPARTURE
    return hit


def _count(marked: Tensor) -> Tensor:
    """How many neighbours of each pixel are marked, the pixel itself left out."""
    side = 2 * RADIUS + 1
    window = torch.ones(1, 1, side, side, device=marked.device)
    return F.conv2d(marked.float(), window, padding=RADIUS) - marked.float()


def _medians(row: Tensor, usable: Tensor, places: tuple[Tensor, ...]) -> Tensor:
    """Per channel lower median over the squares of RADIUS around M ``places`` of [3, H, W], [3, M].

    Of ``usable`` pixels only, bool [H, W]; where there is none, the pixel itself.
    """
    offsets = torch.arange(2 * RADIUS + 1, device=row.device)
    rows = places[0][:, None, None] + offsets[:, None]
    columns = places[1][:, None, None] + offsets
    # Beyond the border and where nothing is usable there is infinity, which sorts last.
    known = F.pad(torch.where(usable, row, torch.inf), (RADIUS,) * 4, value=torch.inf)
    ordered = known[:, rows, columns].flatten(2).sort(-1).values
    count = ordered.isfinite().sum(-1, keepdim=True)
    median = ordered.gather(-1, (count - 1).clamp_min(0) // 2)[..., 0]
    return torch.where(count[..., 0] > 0, median, row[:, *places])
