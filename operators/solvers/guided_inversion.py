"""DDIM inversion under guidance."""

from __future__ import annotations

import torch
from torch import Tensor

from operators.solvers.guidance import BranchPrior
from operators.solvers.levels import level, next_level
from operators.solvers.step_rules import recombine


@torch.no_grad()
def guided_invert(z0: Tensor, timesteps: tuple[int, ...], prior: BranchPrior, weight: float) -> list[Tensor]:
    """Latents after each step of CFG++ inversion, noise rising (Chung et al. 2025, algorithm 3).

    z0 comes from the unconditional eps at the level that is left, the noise is u + weight (c - u) at the
    level that is entered. With the same u and c a CFG++ step undoes it exactly. weight 0 inverts without the
    prompt. ``timesteps`` is the sampler's own descending grid.
    """
    latents = []
    z = z0
    for i in reversed(range(len(timesteps))):
        left, entered = next_level(prior, timesteps, i), level(prior, timesteps[i])
        branches = prior.branches(z, timesteps[i])
        u = branches.uncond.eps
        guided = u if weight == 0.0 else u + weight * (branches.cond.eps - u)
        z = recombine((z - left.noise * u) / left.signal, guided, entered)
        latents.append(z)
    return latents
