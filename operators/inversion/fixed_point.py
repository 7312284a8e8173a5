"""Inversion refined until the sampling step leads back: z_t = B_t(z_s, eps(z_t, t)).

DDIM inversion takes eps at z_s; the exact inverse needs it at z_t. `fixed_point_invert` iterates (AIDI, Pan
et al. 2023, arXiv 2309.04907; the constraint of SPDInv, Li et al. 2024, arXiv 2403.11105), optionally with
Anderson's acceleration over one step of history (our reading of AIDI's variant). `spd_invert` is SPDInv as
published, an optimiser on z_t, kept for comparison: the fixed point needs no gradient through the network.
"""

from __future__ import annotations

import torch
from torch import Tensor

from operators.inversion.path import Rung, along, rungs
from operators.solvers.base import LatentPrior
from operators.solvers.data_steps import adam

#: Relative change of a row below which it counts as converged.
TOLERANCE = 1e-4
#: SPDInv's optimiser: AdamW of this rate and PyTorch's other defaults, and the mean square it stops at.
_RATE, _DECAY, _STOP = 1e-3, 0.01, 5e-6


@torch.no_grad()
def fixed_point_invert(
    z0: Tensor,
    timesteps: tuple[int, ...],
    prior: LatentPrior,
    *,
    iterations: int = 3,
    accelerated: bool = False,
    tolerance: float = TOLERANCE,
) -> Tensor:
    """Trajectory [S, B, C, h, w] as of `ddim_invert`, which is ``iterations`` 1.

    A row whose relative change is below ``tolerance`` stays as it is; all rows go through the network in
    every iteration, so the batch keeps its shape and no row depends on another. A step that grows is halved.
    """
    trajectory = []
    z = z0
    for rung in reversed(rungs(prior, timesteps)):
        z = _fixed_point(z, rung, prior, iterations, accelerated, tolerance)
        trajectory.append(z)
    return torch.stack(trajectory[::-1])


def _fixed_point(
    below: Tensor, rung: Rung, prior: LatentPrior, iterations: int, accelerated: bool, tolerance: float
) -> Tensor:
    z = below
    done = torch.zeros_like(_norm(z), dtype=torch.bool)
    image = residual = before = None
    for k in range(iterations):
        found = along(below, prior.predict(z, rung.t).eps, rung.lower, rung.upper)
        last_residual, residual = residual, found - z
        target = found
        if accelerated and k > 0:
            difference = residual - last_residual
            share = _dot(residual, difference) / _dot(difference, difference).clamp_min(1e-30)
            target = found - share * (found - image)
        size = _norm(target - z)
        if before is not None:
            target = torch.where(size > before, z + 0.5 * (target - z), target)
        small = size <= tolerance * _norm(z)
        z = torch.where(done, z, target)
        done = done | small
        # The first change is that from level to level, not a correction: nothing is compared with it.
        image, before = found, size if k > 0 else None
        if bool(done.all()):
            break
    return z


def spd_invert(z0: Tensor, timesteps: tuple[int, ...], prior: LatentPrior, *, iterations: int = 25) -> Tensor:
    """SPDInv as published: per step, from the DDIM inversion, AdamW on z_t of the mean square of
    z_t - B_t(z_s, eps(z_t)), until it is below 5e-6 or ``iterations`` are done. Rows stop one by one."""
    trajectory = []
    z = z0
    for rung in reversed(rungs(prior, timesteps)):
        with torch.no_grad():
            start = along(z, prior.predict(z, rung.t).eps, rung.lower, rung.upper)
        z = _optimised(start, z, rung, prior, iterations)
        trajectory.append(z)
    return torch.stack(trajectory[::-1])


def _optimised(start: Tensor, below: Tensor, rung: Rung, prior: LatentPrior, iterations: int) -> Tensor:
    z, first, second = start, torch.zeros_like(start), torch.zeros_like(start)
    for k in range(1, iterations + 1):
        with torch.enable_grad():
            leaf = z.detach().requires_grad_(True)
            found = along(below, prior.predict(leaf, rung.t).eps, rung.lower, rung.upper)
            loss = (leaf - found).square().flatten(1).mean(1)
            (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        open_rows = loss.detach() >= _STOP
        if not bool(open_rows.any()):
            break
        decay = _RATE * _DECAY * open_rows.to(z.dtype).view(-1, *[1] * (z.dim() - 1))
        z, first, second = adam(z - decay * z, gradient, first, second, k, _RATE, rows=open_rows)
    return z.detach()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product per row, [B, 1, ...]."""
    return (a * b).flatten(1).sum(1).view(-1, *[1] * (a.dim() - 1))


def _norm(x: Tensor) -> Tensor:
    return _dot(x, x).sqrt()
