"""One enhancement stage over anchors, knots or frames, with replayed references.

All frames of a unit of work advance together, step by step: at each step the references' stored latents are
replayed once (style, then anchors, then knots), and every frame reads what they left. What a frame becomes
depends on its pixels, its references and its noise alone: never on the unit it was processed in.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from operators.acceleration.deepcache import DeepCache, StepCalls, Uncached
from operators.adapters.control import SourceControl
from operators.attention.harvest import Harvest
from operators.attention.mixture import mixed_harvests
from operators.attention.policies.base import SharingPolicy, Unit
from operators.attention.reading import ALONE, Reader, Reading
from operators.attention.session import Record, SharedAttention
from operators.attention.tokens import BOUNDED, Budgets, Key, TokenChoice
from operators.correspondence.fused_prior import LatentFusion
from operators.correspondence.fusion import fuses
from operators.errors import OperatorError
from operators.solvers.base import LatentPrior, State, StepSolver, begin, learned, mirrored_axes
from operators.style.readings import SharedWithStyle, StyleMethod
from operators.style.style_aligned import StyleReference

#: Nothing steers.
UNSTEERED = SourceControl(())


class Replayable(Protocol):
    """What holds the style's references: a `StyleReference`, or a `operators.style.bank.StyleBank`."""

    @property
    def parts(self) -> tuple[tuple[Tensor, float], ...]:
        """Trajectories [S, C, h, w] on the sampler's timesteps, and weights that sum to one."""


class ReadsStyle(Protocol):
    """A style reference and how it is read; ``align`` and ``norms`` say which statistics replays keep."""

    @property
    def reference(self) -> Replayable:
        """The reference."""

    @property
    def align(self) -> bool:
        """Whether queries and keys are aligned to it."""

    @property
    def norms(self) -> bool:
        """Whether statistics of GroupNorm are shared with it."""

    def reading(self, style: Harvest, timestep: int) -> Reading:
        """What rows read of what the reference left, at the network's ``timestep``."""


@dataclass(frozen=True)
class StyleReading:
    """A reference read as StyleAligned does: ``bias`` on its logits (log 2 for real pictures), whether
    queries and keys are aligned to it (AdaIN) and whether GroupNorm statistics are shared."""

    reference: StyleReference
    bias: float
    align: bool
    norms: bool

    def reading(self, style: Harvest, timestep: int) -> Reading:
        """The same at every timestep."""
        return SharedWithStyle(self.bias, self.align, self.norms).reading(style, timestep)


@dataclass(frozen=True)
class MethodReading:
    """References read by any ``method`` of `operators.style.readings`."""

    reference: Replayable
    method: StyleMethod

    @property
    def align(self) -> bool:
        """As the method says."""
        return self.method.align

    @property
    def norms(self) -> bool:
        """As the method says."""
        return self.method.norms

    def reading(self, style: Harvest, timestep: int) -> Reading:
        """As the method says."""
        return self.method.reading(style, timestep)


@dataclass(frozen=True)
class Stage:
    """One item of ``enhance`` bound to a model, a picture size and a scene. References keep ``budgets`` of
    their tokens; ``key`` says what the choice among them is for. With ``cache`` network calls of steps are
    cached, those of replayed references by the same schedule. ``control`` steers frames and references by
    what they show."""

    solver: StepSolver
    prior: LatentPrior
    session: SharedAttention
    style: ReadsStyle | None = None
    budgets: Budgets = BOUNDED
    key: Key = ()
    cache: DeepCache | None = None
    control: SourceControl = UNSTEERED

    def calls(self) -> contextlib.AbstractContextManager[StepCalls]:
        """For one pass over the steps."""
        if self.cache is None:
            return contextlib.nullcontext(Uncached())
        return self.cache.pass_over_steps()


@dataclass(frozen=True)
class Trajectories:
    """What the network saw of finished references: ``anchors`` [A, S, C, h, w] of the scene together,
    ``knots`` {ordinal: [S, C, h, w]}; recorded by earlier calls of `run_stage` with ``trace``. For
    stages with control what they show, in [-1, 1]: ``anchor_frames`` [A, 3, H, W] and ``knot_frames``
    {ordinal: [3, H, W]}."""

    anchors: Tensor | None = None
    knots: Mapping[int, Tensor] = field(default_factory=dict)
    anchor_frames: Tensor | None = None
    knot_frames: Mapping[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """A unit's pictures [B, 3, H, W], unclipped, and what the network saw: trajectory [B, S, C, h, w]
    (empty unless traced); ``learned``: see `operators.solvers.base.Learns`."""

    pictures: Tensor
    trajectory: Tensor
    learned: Mapping[str, Tensor] = field(default_factory=dict)


def run_stage(
    stage: Stage,
    units: Sequence[Unit],
    policy: SharingPolicy,
    trajectories: Trajectories = Trajectories(),
    *,
    fusion: LatentFusion | None = None,
    trace: bool = False,
    solvers: Sequence[StepSolver] = (),
) -> list[Finished]:
    """Run ``units`` through all steps of the stage, reading what ``policy`` says.

    Each unit keeps its own batch shape; none is merged. ``solvers``: one for each unit, of the stage's
    timesteps, where operators differ between frames. With ``fusion`` the units' estimates are pulled
    towards those of their knots in the steps that `operators.correspondence.fusion.fuses` names.
    """
    stages = [replace(stage, solver=solver) for solver in solvers] or [stage] * len(units)
    states = []
    for own, unit in zip(stages, units, strict=True):
        with stage.control.by(unit.y):
            states.append(begin(own.solver, unit.y, unit.noise, stage.prior, unit.draws))
    seen: list[list[Tensor]] = [[] for _ in units]
    with stage.calls() as calls:
        for i in range(len(stage.solver.timesteps)):
            references = StepReferences(stage, i, trajectories, policy, calls)
            for n, unit in enumerate(units):
                if trace:
                    seen[n].append(states[n].z)
                reading = policy.reading(unit, references)
                with calls.at(("unit", n), i), stage.control.by(unit.y):
                    states[n] = _step(stages[n], unit, states[n], reading, references, fusion)
    return [
        Finished(
            own.solver.finish(state, stage.prior),
            # Without steps there is nothing that others could read.
            torch.stack(steps, 1) if steps else unit.y.new_empty(len(unit.y), 0),
            learned(own.solver, state),
        )
        for own, state, steps, unit in zip(stages, states, seen, units, strict=True)
    ]


def _step(
    stage: Stage,
    unit: Unit,
    state: State,
    reading: Reading,
    references: StepReferences,
    fusion: LatentFusion | None,
) -> State:
    i, prior = references.step, stage.prior
    if fusion is not None and fuses(i, len(stage.solver.timesteps)):
        prior = fusion.over(prior, unit.ordinals, references.estimate, references.mirrored)
    if not reading.record:
        with stage.session.under(reading):
            return stage.solver.step(i, state, prior)
    record = references.record()
    with stage.session.under(reading, record):
        state = stage.solver.step(i, state, prior)
    references.left = {unit.ordinals[0]: record.harvest}
    return state


@dataclass(frozen=True)
class _Replayed:
    """What a knot's replay at one step leaves: its bank and its clean estimate [1, C, h, w]."""

    harvest: Harvest
    estimate: Tensor


class StepReferences:
    """Canonical extraction at one step: the style reads nothing; anchors read each other and the style;
    knots read style and anchors. So nothing recurses, and what a reference leaves is the same whoever
    replays it. Implements `operators.attention.policies.base.References`."""

    def __init__(
        self,
        stage: Stage,
        step: int,
        trajectories: Trajectories,
        policy: SharingPolicy,
        calls: StepCalls,
    ) -> None:
        self.step, self.timestep = step, stage.solver.timesteps[step]
        self.mirrored = mirrored_axes(stage.solver, step)
        self.left: dict[int, Harvest] = {}
        keep, self.copies = policy.keep, policy.copies
        # Statistics that nothing is aligned to would be computed for nothing.
        aligned = stage.style is not None and stage.style.align
        self.keep = replace(
            keep,
            moments=keep.moments and aligned,
            norms=keep.norms and aligned and stage.style.norms,
        )
        self._stage, self._trajectories, self._calls = stage, trajectories, calls
        self._knots: dict[int, _Replayed] = {}

    @functools.cached_property
    def style(self) -> Harvest | None:
        """What the style reference left; None without style."""
        if self._stage.style is None:
            return None
        harvests, weights = [], []
        for number, (trajectory, weight) in enumerate(self._stage.style.reference.parts):
            record = self.record()
            self._replay(("style", number), trajectory[self.step][None], None, ALONE, record)
            harvests.append(record.harvest)
            weights.append(weight)
        return mixed_harvests(harvests, weights)

    @functools.cached_property
    def anchors(self) -> Harvest | None:
        """What all anchors left together, cut and merged; None where the scene has none yet."""
        if self._trajectories.anchors is None:
            return None
        budgets = self._stage.budgets
        record = replace(
            self.record(), choice=replace(self._choice, budget=budgets.anchor), merge=budgets.merge
        )
        known = self._trajectories
        z = known.anchors[:, self.step]
        self._replay(("anchors",), z, known.anchor_frames, self.joint_reading(), record)
        return record.harvest

    def knot(self, ordinal: int) -> Harvest:
        """What one knot left, an anchor among them or not: all knots are replayed alike, so that equal
        pictures leave equal banks. Raises OperatorError when its trajectory was not given."""
        return self._replayed_knot(ordinal).harvest

    def estimate(self, ordinal: int) -> Tensor:
        """The clean estimate [1, C, h, w] of one knot; costs nothing where the knot is read as well."""
        return self._replayed_knot(ordinal).estimate

    def _replayed_knot(self, ordinal: int) -> _Replayed:
        if ordinal not in self._knots:
            if ordinal not in self._trajectories.knots:
                raise OperatorError(f"knot {ordinal} is to be read and has no trajectory")
            record = self.record()
            z = self._trajectories.knots[ordinal][self.step][None]
            shown = self._trajectories.knot_frames.get(ordinal)
            reading = replace(self.scene_reading(), own_weight=self.copies.knot)
            frames = None if shown is None else shown[None]
            estimate = self._replay(("knot", ordinal), z, frames, reading, record)
            self._knots[ordinal] = _Replayed(record.harvest, estimate)
        return self._knots[ordinal]

    def record(self) -> Record:
        """Where one call leaves what others read."""
        return Record(Harvest(), self.keep, self._choice)

    def style_reading(self) -> Reading:
        """The rows themselves and the style, aligned to it by statistics of their own."""
        style = self._stage.style
        if self.style is None or style is None:
            return ALONE
        return style.reading(self.style, self.timestep)

    def joint_reading(self) -> Reading:
        """The rows themselves, each other and the style, aligned to it by their pooled statistics."""
        return replace(self.style_reading(), joint=True, choice=self._choice, own_weight=self.copies.anchor)

    def scene_reading(self) -> Reading:
        """The rows themselves, style and anchors, aligned by the anchors' statistics."""
        reading = self.style_reading()
        if self.anchors is None:
            return reading
        alignment = reading.alignment and replace(reading.alignment, content=self.anchors)
        return replace(reading, readers=(*reading.readers, Reader(self.anchors)), alignment=alignment)

    @property
    def _choice(self) -> TokenChoice:
        return TokenChoice(self._stage.budgets.reference, (*self._stage.key, self.step))

    def _replay(
        self, who: Hashable, z: Tensor, frames: Tensor | None, reading: Reading, record: Record
    ) -> Tensor:
        stage = self._stage
        with (
            torch.no_grad(),
            self._calls.at(who, self.step),
            stage.session.under(reading, record),
            stage.control.by(frames),
        ):
            return self._stage.prior.predict(z, self.timestep).z0
