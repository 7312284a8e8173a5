"""Holes filled smoothly from their rims: where a solver begins that has no reason to prefer anything else."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.solvers.linear_algebra import conjugate_gradient

# Conjugate gradients carry what the rim says about a pixel per iteration: enough for holes of HALF_WIDTH
# to either side. Wider ones are filled at half the size first and only need to be refined.
ITERATIONS = 60
HALF_WIDTH = 4
TOLERANCE = 1e-5
# Pixels around the holes that are looked at.
RIM = 8


def smooth_fill(y: Tensor, keep: Tensor) -> Tensor:
    """``y`` [B, 3, H, W] where ``keep`` bool [H, W] holds, elsewhere interpolated from the rim.

    The biharmonic fill (thin plate) goes on with the rim's slopes: right in narrow holes, overshooting in
    wide ones. The harmonic fill (Chan and Shen 2001, membrane) never leaves the rim's range and is flat in
    wide holes. Their errors are of opposite kinds, so wide holes get the mean, which beats both on
    photographs.
    Rows are computed one by one, so that their bits do not depend on their neighbours.
    """
    if bool(keep.all()):
        return y
    rows, columns = _around_holes(keep)
    inner = keep[rows, columns]
    share = 0.5 * _wide_parts(inner).to(y.dtype)
    filled = y.clone()
    for i in range(len(y)):
        part = y[i : i + 1, :, rows, columns]
        plate, membrane = _fill(part, inner, 2), _fill(part, inner, 1)
        mixed = plate + share * (membrane - plate)
        filled[i : i + 1, :, rows, columns] = torch.where(inner, part, mixed)
    return filled


def _around_holes(keep: Tensor) -> tuple[slice, slice]:
    """The rectangle that holds all holes and the rim that they are filled from."""
    slices = []
    for axis in (0, 1):
        places = (~keep).any(1 - axis).nonzero()
        slices.append(slice(max(0, int(places.min()) - RIM), int(places.max()) + 1 + RIM))
    return slices[0], slices[1]


def _fill(y: Tensor, keep: Tensor, order: int) -> Tensor:
    """Solution of (-Laplace)^order u = 0 in the holes with u = y outside. [1, 3, H, W]."""
    known = y * keep
    hole = (~keep).to(y.dtype)

    def normal(v: Tensor) -> Tensor:
        return hole * _laplace(hole * v, order)

    start = hole * _coarse_guess(known, keep, order)
    inside = conjugate_gradient(normal, -hole * _laplace(known, order), start, ITERATIONS, TOLERANCE)
    return known + hole * inside


def _coarse_guess(known: Tensor, keep: Tensor, order: int) -> Tensor:
    """The fill of the picture at half the size, enlarged; where no hole is wide, the mean colour."""
    height, width = keep.shape
    if _is_narrow(keep) or min(height, width) < 4:
        return (known.sum((2, 3), keepdim=True) / keep.sum()).expand_as(known)
    even = (height % 2, width % 2)
    padded = F.pad(known, (0, even[1], 0, even[0]), mode="replicate")
    mask = F.pad(keep[None, None].to(known.dtype), (0, even[1], 0, even[0]), mode="replicate")
    share = F.avg_pool2d(mask, 2)
    small = F.avg_pool2d(padded, 2) / share.clamp_min(0.25)
    filled = _fill(small, share[0, 0] > 0.0, order)
    enlarged = F.interpolate(filled, scale_factor=2, mode="bilinear", align_corners=False)
    return enlarged[..., :height, :width]


def _is_narrow(keep: Tensor) -> bool:
    """Whether every missing pixel has a measured one within HALF_WIDTH rows and columns."""
    return bool((_spread(keep) > 0.0).all())


def _wide_parts(keep: Tensor) -> Tensor:
    """The squares of 2 HALF_WIDTH + 1 pixels that fit into holes, bool [H, W]: their opening."""
    return _spread(_spread(keep) == 0.0)[0, 0] > 0.0


def _spread(mask: Tensor) -> Tensor:
    """``mask`` [..., H, W] with each true pixel grown to a square of 2 HALF_WIDTH + 1, float [1, 1, H, W]."""
    reach = 2 * HALF_WIDTH + 1
    return F.max_pool2d(mask.view(1, 1, *mask.shape[-2:]).float(), reach, stride=1, padding=HALF_WIDTH)


def _laplace(u: Tensor, order: int) -> Tensor:
    """(-Laplace)^order with reflecting borders; symmetric and positive semi-definite."""
    for _ in range(order):
        padded = F.pad(u, (1, 1, 1, 1), mode="replicate")
        neighbours = (
            padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
        )
        u = 4.0 * u - neighbours
    return u
