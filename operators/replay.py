"""One enhancement stage over anchors, knots or frames, with replayed references.

All frames of a unit of work advance together, step by step: at each step the references' stored latents are
replayed once (style, then anchors, then knots), and every frame reads what they left. What a frame becomes
depends on its pixels, its references and its noise alone: never on the unit it was processed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from operators.attention.bias import log_weight
from operators.attention.hat import Bracket
from operators.attention.sharing import Alignment, Harvest, Reader, SharedAttention
from operators.solvers.base import LatentPrior, State, StepSolver
from operators.style.style_aligned import StyleReference


@dataclass(frozen=True)
class StyleReading:
    """How the style reference is read: ``bias`` on its logits (log 2 for real pictures), whether queries
    and keys are aligned to it (AdaIN) and whether GroupNorm statistics are shared."""

    reference: StyleReference
    bias: float
    align: bool
    norms: bool


@dataclass(frozen=True)
class Stage:
    """One item of ``enhance`` bound to a model, a picture size and a scene."""

    solver: StepSolver
    prior: LatentPrior
    session: SharedAttention
    style: StyleReading | None = None


@dataclass(frozen=True)
class Unit:
    """Frames that share one network call: ``y`` [B, 3, h, w] in [-1, 1], ``noise`` [B, C, h', w'].

    ``brackets`` gives each row's knots (empty where knots are not read); ``joint`` lets the rows attend to
    each other (anchors only).
    """

    y: Tensor
    noise: Tensor
    brackets: tuple[Bracket, ...] = ()
    joint: bool = False


@dataclass(frozen=True)
class Finished:
    """A unit's pictures [B, 3, H, W], unclipped, and what the network saw: trajectory [B, S, C, h, w]
    (empty unless traced)."""

    pictures: Tensor
    trajectory: Tensor


@dataclass(frozen=True)
class _StepBank:
    style: Harvest | None
    anchors: Harvest | None
    knots: Mapping[int, Harvest]


def run_stage(
    stage: Stage,
    units: Sequence[Unit],
    *,
    anchors: Tensor | None = None,
    knots: Mapping[int, Tensor] | None = None,
    trace: bool = False,
) -> list[Finished]:
    """Run ``units`` through all steps of the stage.

    ``anchors`` [A, S, C, h, w] and ``knots`` {ordinal: [S, C, h, w]} are trajectories recorded by earlier
    calls with ``trace``. Each unit keeps its own batch shape; none is merged.
    """
    states = [stage.solver.start(unit.y, unit.noise, stage.prior) for unit in units]
    seen: list[list[Tensor]] = [[] for _ in units]
    for i in range(len(stage.solver.timesteps)):
        bank = _replay(stage, i, anchors, knots or {})
        for n, unit in enumerate(units):
            if trace:
                seen[n].append(states[n].z)
            states[n] = _read(stage, i, unit, states[n], bank)
    return [
        Finished(
            stage.solver.finish(state, stage.prior),
            torch.stack(steps, 1) if trace else torch.empty(0),
        )
        for state, steps in zip(states, seen, strict=True)
    ]


def _replay(stage: Stage, i: int, anchors: Tensor | None, knots: Mapping[int, Tensor]) -> _StepBank:
    """Canonical extraction: style reads nothing; anchors read each other and the style; knots read style
    and anchors. So nothing recurses, and K/V are the same whoever computes them."""
    session, prior, t = stage.session, stage.prior, stage.solver.timesteps[i]
    style = None
    if stage.style is not None:
        z_style = stage.style.reference.trajectory[i][None]
        style = session.harvest(lambda: prior.predict(z_style, t))
    bank = _StepBank(style, None, {})
    if anchors is not None:
        z_anchors = anchors[:, i]
        left = session.harvest(
            lambda: prior.predict(z_anchors, t),
            _readers(stage, bank),
            alignment=_alignment(stage, bank),
            joint=True,
        )
        bank = _StepBank(style, left, {})
    readers, alignment = _readers(stage, bank), _alignment(stage, bank)
    harvests = {}
    for ordinal, trajectory in knots.items():
        z_knot = trajectory[i][None]
        harvests[ordinal] = session.harvest(
            lambda z=z_knot: prior.predict(z, t), readers, alignment=alignment
        )
    return _StepBank(style, bank.anchors, harvests)


def _read(stage: Stage, i: int, unit: Unit, state: State, bank: _StepBank) -> State:
    readers = _readers(stage, bank)
    if unit.brackets:
        readers += _knot_readers(unit.brackets, bank.knots)
    with stage.session.reading(readers, alignment=_alignment(stage, bank), joint=unit.joint):
        return stage.solver.step(i, state, stage.prior)


def _readers(stage: Stage, bank: _StepBank) -> list[Reader]:
    readers = []
    if bank.style is not None and stage.style is not None:
        readers.append(Reader(bank.style, bias=stage.style.bias))
    if bank.anchors is not None:
        readers.append(Reader(bank.anchors))
    return readers


def _alignment(stage: Stage, bank: _StepBank) -> Alignment | None:
    if bank.style is None or stage.style is None or not stage.style.align:
        return None
    return Alignment(bank.style, bank.anchors, norms=stage.style.norms)


def _knot_readers(brackets: Sequence[Bracket], knots: Mapping[int, Harvest]) -> list[Reader]:
    """All rows of a unit lie between the same two knots; their hat weights differ per row."""
    (left, right), *others = {(b.left, b.right) for b in brackets}
    if others:
        raise ValueError(f"a unit must lie between two knots, got {[(left, right), *others]}")
    left_bias = log_weight(torch.tensor([b.left_weight for b in brackets]))
    right_bias = log_weight(torch.tensor([b.right_weight for b in brackets]))
    return [Reader(knots[left], row_bias=left_bias), Reader(knots[right], row_bias=right_bias)]
