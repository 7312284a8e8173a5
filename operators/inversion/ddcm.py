"""DDCM, the inversion-free editing of InfEdit (Xu et al. 2024, arXiv 2312.04965, algorithm 2 without its
mutual branch): the source's path is known, and only the difference of two predictions moves the edit.

z0' = z0 + [(z' - z) - noise (eps'(z') - eps(z))] / signal, with z = signal z0 + noise n. Equal prompts leave
z0 as it is, exactly. The fast path with few-step models; diffusions take 30 to 50 steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from operators.solvers.base import LatentPrior, State
from operators.solvers.levels import level
from operators.solvers.step_rules import recombine


@dataclass(frozen=True)
class WithDraw(State):
    """``source`` is the clean latent of the source, ``fresh`` the draw that ``z`` was noised with; ``z0`` the
    edit so far."""

    source: Tensor | None = None
    fresh: Tensor | None = None


@dataclass(frozen=True)
class Ddcm:
    """A StepSolver. ``source`` is the prior that tells the source, apart from any attention that the edit
    shares. Share draws among the frames of a scene."""

    timesteps: tuple[int, ...]
    source: LatentPrior

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> WithDraw:
        z0 = prior.encode(y)
        z = recombine(z0, noise, level(prior, self.timesteps[0]))
        return WithDraw(z=z, y=y, z0=z0, source=z0, fresh=noise)

    def step(self, i: int, state: WithDraw, prior: LatentPrior) -> WithDraw:
        t = self.timesteps[i]
        here = level(prior, t)
        z = recombine(state.source, state.fresh, here)
        with torch.no_grad():
            told = self.source.predict(z, t)
        found = prior.predict(state.z, t)
        z0 = state.source + ((state.z - z) - here.noise * (found.eps - told.eps)) / here.signal
        if i + 1 == len(self.timesteps):
            return replace(state, z0=z0)
        fresh = state.normal(i + 1, "virtual inversion")
        there = level(prior, self.timesteps[i + 1])
        return replace(state, z=recombine(z0, fresh, there), z0=z0, fresh=fresh)

    def finish(self, state: WithDraw, prior: LatentPrior) -> Tensor:
        """The edited clean latent, decoded."""
        return prior.decode(state.z0)
