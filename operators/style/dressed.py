"""A solver under a style: colours move before it starts, and a prior of its own stands around every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from operators.inversion.pinned import Change, unchanged
from operators.solvers.base import LatentPrior, State, StepSolver


def itself(prior: LatentPrior) -> LatentPrior:
    """Nothing around ``prior``."""
    return prior


@dataclass(frozen=True)
class Dressed:
    """A StepSolver: ``solver`` on frames whose clean latents are ``recoloured`` first, with priors that
    ``around`` wraps at every step. References are replayed without what is ``around``: it changes what the
    network's output becomes, not what it leaves in its layers."""

    solver: StepSolver
    recoloured: Change = unchanged
    around: Callable[[LatentPrior], LatentPrior] = itself

    @property
    def timesteps(self) -> tuple[int, ...]:
        """The solver's."""
        return self.solver.timesteps

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        """The solver's first state for the recoloured frames."""
        return self.solver.start(y, noise, _Recolouring(prior, self.recoloured))

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        """The solver's step."""
        return self.solver.step(i, state, self.around(prior))

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        """The solver's picture."""
        return self.solver.finish(state, prior)


class _Recolouring:
    """A prior whose clean latents are changed; everything else is the wrapped prior's."""

    def __init__(self, prior: LatentPrior, change: Change) -> None:
        self._prior, self._change = prior, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)

    def encode(self, x: Tensor) -> Tensor:
        """The changed latents of pictures [B, 3, H, W] in [-1, 1]."""
        return self._change(self._prior.encode(x))
