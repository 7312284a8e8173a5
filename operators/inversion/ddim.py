"""DDIM inversion: from a clean latent back along the deterministic sampling path (Song et al. 2021).

The network is given the *target* timestep with the *source* state, as all published users of the method do.
Cross-frame attention must be off while inverting, otherwise the trajectory belongs to another model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from operators.solvers.base import LatentPrior


def ddim_inverse_step(z: Tensor, eps: Tensor, ab_from: Tensor, ab_to: Tensor) -> Tensor:
    """One step from alpha-bar ``ab_from`` to the noisier ``ab_to``; exact inverse of the DDIM step (eta 0)
    for the same ``eps``."""
    z0 = (z - (1 - ab_from).sqrt() * eps) / ab_from.sqrt()
    return ab_to.sqrt() * z0 + (1 - ab_to).sqrt() * eps


@torch.no_grad()
def ddim_invert(z0: Tensor, timesteps: Sequence[int], prior: LatentPrior) -> Tensor:
    """Trajectory [S, B, C, h, w] of ``z0`` [B, C, h, w]: entry i is the latent at ``timesteps[i]``.

    ``timesteps`` is the sampler's own descending grid, so that replay meets the same levels.
    """
    trajectory = []
    z, level = z0, prior.final_alpha_cumprod
    for t in reversed(timesteps):
        next_level = prior.alphas_cumprod[t]
        z = ddim_inverse_step(z, prior.predict(z, t).eps, level, next_level)
        level = next_level
        trajectory.append(z)
    return torch.stack(trajectory[::-1])
