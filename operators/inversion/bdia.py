"""BDIA: exact inversion by bidirectional integration (Zhang, Lewis and Kleijn 2024, arXiv 2307.10829).

z_{i-1} = gamma z_{i+1} - gamma up(z_i) + down(z_i), where up and down are DDIM steps to the neighbouring
levels with the noise predicted at z_i; it is linear in z_{i+1}, hence undone exactly. No network call more
than DDIM. Errors of inversion grow by 1/gamma per step: gamma 0.5 is for sampling only.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from operators.errors import OperatorError
from operators.inversion.path import along, rungs
from operators.solvers.base import LatentPrior, State
from operators.solvers.step_rules import recombine


@dataclass(frozen=True)
class TwoLevels(State):
    """``z``, and the latent of the ``neighbour`` level: before the first step the cleaner one, which the
    inversion carried over, afterwards the noisier one."""

    neighbour: Tensor | None = None


@dataclass(frozen=True)
class Bdia:
    """A StepSolver: inverts with the prior ``inversion``, samples with the solver's. ``gamma`` in (0, 1]."""

    timesteps: tuple[int, ...]
    inversion: LatentPrior
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.gamma <= 1.0:
            raise OperatorError(f"bdia: gamma {self.gamma} is outside (0, 1]; 1 inverts best")

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> TwoLevels:
        """The last two states of the inversion. Deterministic: ``noise`` is not used."""
        steps = rungs(prior, self.timesteps)[::-1]
        below = prior.encode(y)
        with torch.no_grad():
            first = steps[0]
            z = along(below, self.inversion.predict(below, first.t).eps, first.lower, first.upper)
            for here, above in itertools.pairwise(steps):
                found = self.inversion.predict(z, here.t)
                down = recombine(found.z0, found.eps, here.lower)
                up = recombine(found.z0, found.eps, above.upper)
                below, z = z, (below - down) / self.gamma + up
        return TwoLevels(z=z, y=y, neighbour=below)

    def step(self, i: int, state: TwoLevels, prior: LatentPrior) -> TwoLevels:
        """The first step takes what the inversion carried over, and needs no network."""
        if i == 0:
            return replace(state, z=state.neighbour, neighbour=state.z)
        steps = rungs(prior, self.timesteps)
        found = prior.predict(state.z, self.timesteps[i])
        down = recombine(found.z0, found.eps, steps[i].lower)
        up = recombine(found.z0, found.eps, steps[i - 1].upper)
        z = self.gamma * state.neighbour - self.gamma * up + down
        return replace(state, z=z, neighbour=state.z)

    def finish(self, state: TwoLevels, prior: LatentPrior) -> Tensor:
        """Decode."""
        return prior.decode(state.z)
