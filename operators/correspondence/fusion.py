"""Flow-guided fusion of clean estimates with those of the two knots around a frame.

After Rerender-A-Video (Yang et al. 2023, arXiv 2306.07954), which warps the previous and the first keyframe;
here both knots are warped and weighed by hat weights, so that fusion has no direction in time and nothing
jumps where a knot leaves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

#: Rerender's mask strength, and the part of the steps in which it fuses.
STRENGTH = 0.5
FIRST, LAST = 0.5, 0.8


@dataclass(frozen=True)
class Knot:
    """One knot as a frame sees it: its clean estimate ``z0`` [1, C, h, w]; ``flow`` [B, 2, h, w] from the
    frame to the knot in latent cells (x, y); ``visible`` [B, 1, h, w] in [0, 1], 0 where the knot does not
    show what the frame shows; ``weight`` [B], its hat weight."""

    z0: Tensor
    flow: Tensor
    visible: Tensor
    weight: Tensor


def warped(z: Tensor, flow: Tensor) -> Tensor:
    """``z`` [1 or B, C, h, w] bilinearly sampled at x + flow [B, 2, h, w] (cells; edges repeat)."""
    rows, _, height, width = flow.shape
    y, x = torch.meshgrid(
        torch.arange(height, device=z.device, dtype=z.dtype),
        torch.arange(width, device=z.device, dtype=z.dtype),
        indexing="ij",
    )
    at_x = (2 * (x + flow[:, 0]) + 1) / width - 1
    at_y = (2 * (y + flow[:, 1]) + 1) / height - 1
    grid = torch.stack([at_x, at_y], -1)
    return F.grid_sample(
        z.expand(rows, -1, -1, -1), grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def fused(z0: Tensor, knots: tuple[Knot, ...], strength: float) -> Tensor:
    """``z0 + s sum_k w_k v_k (W_k(z0_k) - z0)`` for clean estimates ``z0`` [B, C, h, w].

    With one visibility v for both knots and hat weights (1 - u, u) this is ``(1 - s v) z0 + s v [(1 - u)
    W_L(z0_L) + u W_R(z0_R)]``; our reading where only one of them is visible: it alone pulls, by its own
    weight. ``strength`` s in [0, 1].
    """
    pull = torch.zeros_like(z0)
    for knot in knots:
        share = knot.weight.to(z0)[:, None, None, None] * knot.visible.to(z0)
        pull = pull + share * (warped(knot.z0, knot.flow) - z0)
    return z0 + strength * pull


def fuses(step: int, steps: int) -> bool:
    """Whether ``step`` (from 0) of ``steps`` lies in the part in which estimates are fused."""
    return FIRST <= step / steps < LAST
