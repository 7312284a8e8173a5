"""How much signal and how much noise a latent holds at a timestep, for diffusion and flow networks alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from operators.solvers.base import LatentPrior
from operators.solvers.checkpoints import VideoConsistencyPrior


@dataclass(frozen=True)
class Level:
    """z = ``signal`` z0 + ``noise`` eps; scalars as 0-dim tensors.

    ``ab`` is alpha-bar of equal signal-to-noise ratio: signal^2 / (signal^2 + noise^2).
    """

    ab: Tensor
    signal: Tensor
    noise: Tensor

    @property
    def flow_time(self) -> Tensor:
        """s with signal : noise = (1 - s) : s, in [0, 1]."""
        return self.noise / (self.signal + self.noise)

    @property
    def variance_ratio(self) -> Tensor:
        """(1 - ab) / ab: noise variance relative to the clean latent."""
        return (self.noise / self.signal).square()


def diffusion_level(ab: Tensor) -> Level:
    """Variance preserving: signal sqrt(ab), noise sqrt(1 - ab)."""
    return Level(ab, ab.sqrt(), (1.0 - ab).sqrt())


def flow_level(s: Tensor) -> Level:
    """Rectified flow (Liu et al. 2023): signal 1 - s, noise s."""
    return Level((1.0 - s).square() / ((1.0 - s).square() + s.square()), 1.0 - s, s)


def flow_alphas(s: Tensor) -> Tensor:
    """alpha-bar of equal signal-to-noise ratio for flow times ``s`` in [0, 1], float64."""
    return flow_level(s.double()).ab


def prior_kind(prior: LatentPrior | VideoConsistencyPrior) -> str:
    """ "diffusion", "flow" or "consistency"; a prior that does not say is a diffusion."""
    return getattr(prior, "kind", "diffusion")


def level_of_alpha(prior: LatentPrior | VideoConsistencyPrior, ab: Tensor) -> Level:
    """The level of alpha-bar ``ab`` in the coordinates that ``prior`` expects its latents in."""
    if prior_kind(prior) != "flow":
        return diffusion_level(ab)
    noise, signal = (1.0 - ab).sqrt(), ab.sqrt()
    return flow_level(noise / (signal + noise))


def level(prior: LatentPrior | VideoConsistencyPrior, t: int) -> Level:
    """The level of timestep ``t``."""
    return level_of_alpha(prior, prior.alphas_cumprod[t])


def next_level(prior: LatentPrior, timesteps: tuple[int, ...], i: int) -> Level:
    """The level that follows step ``i``; after the last one that of ``final_alpha_cumprod``."""
    if i + 1 < len(timesteps):
        return level(prior, timesteps[i + 1])
    return level_of_alpha(prior, torch.as_tensor(prior.final_alpha_cumprod))


class AlphaShift:
    """A prior whose table is read one entry earlier: timestep t gets alpha-bar of t - 1, t = 0 gets 1.

    The convention of the code behind CFG++, TReg and DreamSampler (the table prefixed with 1.0). Everything
    but the table is the wrapped prior's.
    """

    def __init__(self, prior: LatentPrior) -> None:
        self._prior = prior
        table = prior.alphas_cumprod
        self.alphas_cumprod = torch.cat([table.new_ones(1), table])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)
