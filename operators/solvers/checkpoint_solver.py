"""A restorer with weights of its own in the place of a solver."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.errors import OperatorError
from operators.solvers.base import LatentPrior, State
from operators.solvers.checkpoints import CheckpointOperator


@dataclass(frozen=True)
class CheckpointSolver:
    """``restorer`` on what ``operator`` measured. No step meets the latent network, so frames read no
    references: what they have in common is the noise of their scene."""

    operator: ForwardOperator
    restorer: CheckpointOperator
    timesteps: tuple[int, ...] = ()

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        return State(z=noise, y=self.operator.restrict(y))

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        raise OperatorError("checkpoint solver: it has no steps; finish restores")

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        return self.restorer.restore(state.y, state.drawn_from)
