"""Entering below pure noise: a sampler that begins at the noised classical restoration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.solvers.base import LatentPrior, State, StepSolver, learned
from operators.solvers.levels import level
from operators.solvers.step_rules import recombine


@dataclass(frozen=True)
class WarmStart:
    """``solver`` with its first latent replaced by signal E(classical(y)) + noise n.

    Meng et al. 2022 (SDEdit), Chung et al. 2022 ("Come-Closer-Diffuse-Faster"). ``solver.timesteps`` begin
    where it enters.
    """

    solver: StepSolver
    operator: ForwardOperator

    @property
    def timesteps(self) -> tuple[int, ...]:
        return self.solver.timesteps

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        state = self.solver.start(y, noise, prior)
        z0 = prior.encode(self.operator.classical(state.y).clamp(-1.0, 1.0))
        return replace(state, z=recombine(z0, noise, level(prior, self.timesteps[0])))

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        return self.solver.step(i, state, prior)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        return self.solver.finish(state, prior)

    def learned(self, state: State) -> Mapping[str, Tensor]:
        """See `operators.solvers.base.Learns`."""
        return learned(self.solver, state)
