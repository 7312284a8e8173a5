"""Between pixel noise levels and the timesteps of a latent prior."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from operators.solvers.base import LatentPrior


def pixel_sigmas(prior: LatentPrior) -> Tensor:
    """Standard deviation on [-1, 1] of the white pixel noise that each timestep removes, float64 [T].

    The latent at t carries noise sqrt((1 - ab) / ab) relative to the clean latent, and pixel noise
    reaches the latent multiplied by ``prior.noise_gain``.
    """
    ab = prior.alphas_cumprod.double().cpu()
    return ((1.0 - ab) / ab).sqrt() / prior.noise_gain


def nearest_timestep(sigmas: Tensor, sigma: float) -> int:
    """The timestep whose level in ``sigmas`` is nearest to ``sigma`` in logarithm."""
    return int((sigmas.log() - math.log(sigma)).abs().argmin())


def log_spaced_timesteps(sigmas: Tensor, high: float, low: float, steps: int) -> tuple[int, ...]:
    """``steps`` timesteps at levels falling from ``high`` to ``low`` in equal ratios.

    Non-increasing: levels closer than the table's spacing share a timestep.
    """
    levels = torch.logspace(math.log10(high), math.log10(low), steps, dtype=torch.float64)
    return tuple(nearest_timestep(sigmas, float(level)) for level in levels)
