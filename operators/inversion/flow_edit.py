"""FlowEdit (Kulikov et al. 2025, arXiv 2412.08629, algorithm 1): editing with a rectified flow, no inversion.

The edit follows the difference of the velocities of target and source, both seen through the same noise:
z_tgt = z_edit + z_src - x, dz_edit = (V_tgt(z_tgt) - V_src(z_src)) ds. It is DDCM for flows, and like it
leaves the source alone when the prompts are equal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from operators.errors import OperatorError
from operators.inversion.path import along, rungs
from operators.solvers.base import LatentPrior, Prediction, State
from operators.solvers.levels import level, prior_kind
from operators.solvers.step_rules import recombine


def velocity(prediction: Prediction) -> Tensor:
    """dz/ds = eps - z0 of z = (1 - s) z0 + s eps."""
    return prediction.eps - prediction.z0


def require_flow(prior: LatentPrior, method: str) -> None:
    """Raises OperatorError where ``prior`` is no rectified flow."""
    if prior_kind(prior) != "flow":
        raise OperatorError(f"{method}: needs a flow model, and this one is a {prior_kind(prior)} model")


@dataclass(frozen=True)
class FlowState(State):
    """``source`` is the clean latent x, ``z0`` the edit; ``z`` is what the network sees of the edit, noised
    with ``fresh``."""

    source: Tensor | None = None
    fresh: Tensor | None = None


@dataclass(frozen=True)
class FlowEdit:
    """A StepSolver. Velocities are averaged over ``draws``; the last ``plain`` steps are plain sampling (the
    paper's n_avg and n_min; n_max is the length of ``timesteps``). ``source`` tells the source, apart from
    any attention that the edit shares. Share draws among the frames of a scene."""

    timesteps: tuple[int, ...]
    source: LatentPrior
    draws: int = 1
    plain: int = 0

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> FlowState:
        """Raises OperatorError for priors that are no flows."""
        require_flow(prior, "flow_edit")
        z0 = prior.encode(y)
        z = recombine(z0, noise, level(prior, self.timesteps[0]))
        return FlowState(z=z, y=y, z0=z0, source=z0, fresh=noise)

    def step(self, i: int, state: FlowState, prior: LatentPrior) -> FlowState:
        rung = rungs(prior, self.timesteps)[i]
        if i >= len(self.timesteps) - self.plain:
            found = prior.predict(state.z, rung.t)
            z = along(state.z, found.eps, rung.upper, rung.lower)
            return replace(state, z=z, z0=z)
        total = torch.zeros_like(state.z0)
        for number in range(self.draws):
            fresh = state.fresh if number == 0 else state.normal(i, f"flow edit {number}")
            z = recombine(state.source, fresh, rung.upper)
            with torch.no_grad():
                told = velocity(self.source.predict(z, rung.t))
            total = total + (velocity(prior.predict(z + (state.z0 - state.source), rung.t)) - told)
        edit = state.z0 + (rung.lower.flow_time - rung.upper.flow_time) * total / self.draws
        if i + 1 == len(self.timesteps):
            return replace(state, z=edit, z0=edit)
        fresh = state.normal(i + 1, "flow edit 0")
        z = recombine(state.source, fresh, rung.lower)
        return replace(state, z=z + (edit - state.source), z0=edit, fresh=fresh)

    def finish(self, state: FlowState, prior: LatentPrior) -> Tensor:
        """The edit, decoded."""
        return prior.decode(state.z0)
