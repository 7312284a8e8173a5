"""RF-Solver and RF-Edit (Wang et al. 2024, "Taming Rectified Flow for Inversion and Editing", arXiv
2411.04746): a second-order step along a rectified flow, both ways, and editing with the source's values.

z' = z + ds v + ds^2 / 2 (v_m - v) / (s_m - s), v_m the velocity half a step ahead (eq. 8 and 9). Networks
take integer timesteps, so half a step is the timestep in the middle, rounded down; the derivative uses its
true time. RF-Edit stores the values of self-attention while inverting; we replay the source beside the edit
instead, which gives the values of the same states without keeping them (our reading, and that all of
``layers`` take part).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from operators.attention.session import SharedAttention
from operators.inversion.flow_edit import require_flow, velocity
from operators.inversion.pinned import Inverted, SourceFeatures
from operators.solvers.base import LatentPrior, Prediction
from operators.solvers.levels import level

#: Velocity at a latent and a timestep.
Field = Callable[[Tensor, int], Tensor]


def second_order_step(z: Tensor, t: int, t_next: int, prior: LatentPrior, field: Field) -> Tensor:
    """From timestep ``t`` to ``t_next``, above or below it; two evaluations of ``field``."""
    middle = (t + t_next) // 2 if t_next < t else (t + t_next + 1) // 2
    here, between, there = (level(prior, time).flow_time for time in (t, middle, t_next))
    v = field(z, t)
    change = field(z + (between - here) * v, middle) - v
    ds = there - here
    return z + ds * v + ds**2 / 2 * change / (between - here)


@torch.no_grad()
def rf_invert(z0: Tensor, timesteps: tuple[int, ...], prior: LatentPrior) -> Tensor:
    """Trajectory [S, B, C, h, w] of ``z0``, entry i at ``timesteps[i]``; timestep 0 is the clean end.

    Raises OperatorError for priors that are no flows.
    """
    require_flow(prior, "rf_edit")
    trajectory = []
    z, t = z0, 0
    for t_next in reversed(timesteps):
        z = second_order_step(z, t, t_next, prior, lambda x, at: velocity(prior.predict(x, at)))
        trajectory.append(z)
        t = t_next
    return torch.stack(trajectory[::-1])


@dataclass(frozen=True)
class RfEdit:
    """A StepSolver: inverts with ``source`` (no guidance, empty prompt), samples with the solver's prior.
    ``features`` of the source are taken in both evaluations of a step; None is RF-Solver alone."""

    timesteps: tuple[int, ...]
    source: LatentPrior
    session: SharedAttention | None = None
    features: SourceFeatures | None = None

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> Inverted:
        """Deterministic: ``noise`` is not used."""
        trajectory = rf_invert(prior.encode(y), self.timesteps, self.source)
        return Inverted(z=trajectory[0], y=y, trajectory=trajectory)

    def step(self, i: int, state: Inverted, prior: LatentPrior) -> Inverted:
        t = self.timesteps[i]
        t_next = self.timesteps[i + 1] if i + 1 < len(self.timesteps) else 0
        taken = self.features and self.features.at(i, len(self.timesteps))
        beside = _Beside(state.trajectory[i], t, self, taken, prior) if taken else None
        field = beside or (lambda z, at: velocity(prior.predict(z, at)))
        return replace(state, z=second_order_step(state.z, t, t_next, prior, field))

    def finish(self, state: Inverted, prior: LatentPrior) -> Tensor:
        """Decode."""
        return prior.decode(state.z)


class _Beside:
    """The velocity of the edit with features of the source, which takes its own half step beside it."""

    def __init__(self, z: Tensor, t: int, solver: RfEdit, taken: SourceFeatures, prior: LatentPrior) -> None:
        self._z, self._t, self._solver, self._taken, self._prior = z, t, solver, taken, prior

    def __call__(self, z: Tensor, t: int) -> Tensor:
        solver = self._solver
        if t != self._t:
            ahead = level(self._prior, t).flow_time - level(self._prior, self._t).flow_time
            self._z, self._t = self._z + ahead * self._velocity, t
        harvest, found = self._taken.harvested(self._z, t, solver.source, solver.session)
        self._velocity = velocity(found)
        with solver.session.injecting(self._taken.injection(harvest)):
            prediction: Prediction = self._prior.predict(z, t)
        return velocity(prediction)
