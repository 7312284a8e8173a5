"""A sampler whose picture gets one more look at the measurement."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.solvers.back_projection import spread_prox
from operators.solvers.base import LatentPrior, State, StepSolver
from operators.solvers.gauss_newton import gauss_newton_prox


@dataclass(frozen=True)
class LastFit:
    """``solver``, its result moved by the prox of weight ``weight`` in pixels, without encoding it again.

    Ours. Few steps of fixed length end at a residual of about their length, and no decoder returns exactly
    what was measured; both are made good by one step, in closed form where the operator has one.
    """

    solver: StepSolver
    operator: ForwardOperator
    weight: float

    @property
    def timesteps(self) -> tuple[int, ...]:
        return self.solver.timesteps

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        return self.solver.start(y, noise, prior)

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        return self.solver.step(i, state, prior)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        x = self.solver.finish(state, prior)
        if not self.operator.has_prox:
            return gauss_newton_prox(self.operator, x, state.y, self.weight)
        return spread_prox(self.operator, x, state.y, self.weight)
