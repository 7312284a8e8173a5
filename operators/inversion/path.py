"""The deterministic path between two levels, both ways, and the levels a sampler visits."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from operators.solvers.base import LatentPrior
from operators.solvers.levels import Level, level, next_level
from operators.solvers.step_rules import recombine


def along(z: Tensor, eps: Tensor, left: Level, entered: Level) -> Tensor:
    """``z`` [B, C, h, w] carried from the level ``left`` to ``entered`` with the noise ``eps``.

    Down it is the DDIM step (Song et al. 2021, eq. 12 with eta 0), up its algebraic inverse: with the same
    ``eps`` one undoes the other. On a flow it is the Euler step.
    """
    return recombine((z - left.noise * eps) / left.signal, eps, entered)


@dataclass(frozen=True)
class Rung:
    """One step of a sampler: the network's timestep ``t`` belongs to the level ``upper``; sampling ends at
    ``lower``."""

    t: int
    lower: Level
    upper: Level


def rungs(prior: LatentPrior, timesteps: tuple[int, ...]) -> list[Rung]:
    """The steps of descending ``timesteps``, in their order."""
    return [Rung(t, next_level(prior, timesteps, i), level(prior, t)) for i, t in enumerate(timesteps)]
