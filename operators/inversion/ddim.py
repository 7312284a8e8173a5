"""DDIM inversion: from a clean latent back along the deterministic sampling path (Song et al. 2021).

The network is given the *target* timestep with the *source* state, as all published users of the method do.
Cross-frame attention must be off while inverting, otherwise the trajectory belongs to another model.
"""

from __future__ import annotations

import torch
from torch import Tensor

from operators.inversion.path import along, rungs
from operators.solvers.base import LatentPrior


@torch.no_grad()
def ddim_invert(z0: Tensor, timesteps: tuple[int, ...], prior: LatentPrior) -> Tensor:
    """Trajectory [S, B, C, h, w] of ``z0`` [B, C, h, w]: entry i is the latent at ``timesteps[i]``.

    ``timesteps`` is the sampler's own descending grid, so that replay meets the same levels.
    """
    trajectory = []
    z = z0
    for rung in reversed(rungs(prior, timesteps)):
        z = along(z, prior.predict(z, rung.t).eps, rung.lower, rung.upper)
        trajectory.append(z)
    return torch.stack(trajectory[::-1])
