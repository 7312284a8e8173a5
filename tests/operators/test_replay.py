"""Replayed references: a frame is a function of itself and its references, whoever computes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch

from operators.attention.install import install
from operators.attention.policies.base import AMONG_KNOTS, ONCE, Unit
from operators.attention.policies.knots import Knots
from operators.attention.policies.registry import Surroundings, build_policy
from operators.attention.policies.scene import Anchors, Independent, JointAnchors
from operators.attention.session import SharedAttention
from operators.attention.tokens import BOUNDED, Budgets
from operators.errors import OperatorError
from operators.models import BoundPrior, LatentModel
from operators.replay import Finished, Stage, StyleReading, Trajectories, run_stage
from operators.solvers.base import Prediction
from operators.solvers.ddim import leading_timesteps
from operators.style.style_aligned import StyleAligned, style_reference
from operators.style.transport import latent_statistics

SIZE = 32
TIMESTEPS = leading_timesteps(4, strength=0.6)


@pytest.fixture(scope="module")
def parts() -> Iterator[tuple[LatentModel, SharedAttention]]:
    torch.set_num_threads(1)
    model = LatentModel.from_pretrained("embedded")
    with install(model.unet) as session:
        yield model, session


def picture(seed: int, rows: int = 1) -> torch.Tensor:
    coarse = torch.rand(rows, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic").clamp(0, 1) * 2 - 1


def clip(frames: int) -> list[torch.Tensor]:
    """A slow cross-fade: frame n between two pictures."""
    first, last = picture(1), picture(2)
    return [first + (last - first) * n / (frames - 1) for n in range(frames)]


#: Small pictures keep all tokens under the default; these cut every shared layer and merge the anchors.
TIGHT = Budgets(reference=10, anchor=6, merge=0.5)


def stage_of(
    parts: tuple[LatentModel, SharedAttention], *, bias: float = 0.7, budgets: Budgets = BOUNDED
) -> Stage:
    model, session = parts
    prior = CountingPrior(model, listener=session)
    with torch.no_grad():
        style = style_reference(picture(8), TIMESTEPS, prior)
        content = latent_statistics(model.encode(picture(1)))
    solver = StyleAligned(TIMESTEPS, BoundPrior(model, listener=session), style, content, 1.0)
    prior.calls = 0
    return Stage(solver, prior, session, StyleReading(style, bias, align=True, norms=False), budgets)


class CountingPrior(BoundPrior):
    """Counts the network calls."""

    calls = 0

    def predict(self, z: torch.Tensor, t: int) -> Prediction:
        self.calls += 1
        return super().predict(z, t)


def unit(frame: torch.Tensor, *ordinals: int) -> Unit:
    return Unit(frame, torch.zeros(frame.shape[0], 12, SIZE // 4, SIZE // 4), ordinals)


@torch.no_grad()
def references(stage: Stage, frames: list[torch.Tensor]) -> tuple[Finished, dict[int, Finished]]:
    """Anchors 0 and 8, knots 0, 4 and 8 of a nine-frame clip."""
    both = unit(torch.cat([frames[0], frames[8]]), 0, 8)
    (anchors,) = run_stage(stage, [both], JointAnchors(), trace=True)
    knots = {}
    for ordinal in (0, 4, 8):
        alone = [unit(frames[ordinal], ordinal)]
        (knots[ordinal],) = run_stage(stage, alone, Anchors(), Trajectories(anchors.trajectory), trace=True)
    return anchors, knots


@torch.no_grad()
def render(
    stage: Stage, frames: list[torch.Tensor], ordinals: list[int], grid: list[int]
) -> dict[int, torch.Tensor]:
    anchors, knots = references(stage, frames)
    units = [unit(frames[o], o) for o in ordinals]
    trajectories = {ordinal: knots[ordinal].trajectory[0] for ordinal in grid}
    known = Trajectories(anchors.trajectory, trajectories)
    finished = run_stage(stage, units, Knots(tuple(grid)), known)
    return {ordinal: done.pictures for ordinal, done in zip(ordinals, finished, strict=True)}


@pytest.mark.parametrize("budgets", [BOUNDED, TIGHT], ids=["all tokens", "few tokens"])
def test_frames_are_the_same_bits_alone_together_and_in_any_order(
    parts: tuple[LatentModel, SharedAttention], budgets: Budgets
) -> None:
    stage, frames = stage_of(parts, budgets=budgets), clip(9)
    together = render(stage, frames, [1, 2, 3, 5, 6], [0, 4, 8])
    backwards = render(stage, frames, [6, 5, 3, 2, 1], [0, 4, 8])
    alone = render(stage, frames, [2], [0, 4])
    assert all(torch.equal(together[o], backwards[o]) for o in together)
    assert torch.equal(together[2], alone[2])


def test_references_move_a_frame_and_the_trace_is_what_the_network_saw(
    parts: tuple[LatentModel, SharedAttention],
) -> None:
    stage, frames = stage_of(parts), clip(9)
    _, knots = references(stage, frames)
    shared = render(stage, frames, [2], [0, 4])[2]
    (alone,) = run_stage(stage, [unit(frames[2], 2)], Independent(), trace=True)
    assert (shared - alone.pictures).abs().max() > 1e-4
    assert knots[4].trajectory.shape == (1, len(TIMESTEPS), 12, SIZE // 4, SIZE // 4)
    with torch.no_grad():
        started = stage.solver.start(frames[2], torch.zeros(1), stage.prior).z
    assert torch.equal(alone.trajectory[:, 0], started)


def test_a_static_scene_stays_static(parts: tuple[LatentModel, SharedAttention]) -> None:
    """Equal frames with equal brackets' pictures: only the hat weights differ, and all knots are equal, so
    nothing may move by more than rounding."""
    stage, frames = stage_of(parts), [picture(3)] * 9
    rendered = render(stage, frames, [1, 2, 3, 5, 6, 7], [0, 4, 8])
    first = rendered[1]
    assert max((other - first).abs().max().item() for other in rendered.values()) < 1e-3


@pytest.mark.parametrize("knot", [4, 0], ids=["knot", "anchor"])
def test_an_equal_frame_beside_a_knot_becomes_what_the_knot_became(
    parts: tuple[LatentModel, SharedAttention], knot: int
) -> None:
    """It meets itself, the knot and, where that is one, the anchor: so must the knot, or it stands out."""
    stage, frames = stage_of(parts), clip(9)
    anchors, knots = references(stage, frames)
    made = anchors.pictures[:1] if knot == 0 else knots[knot].pictures
    seen = anchors.trajectory[0] if knot == 0 else knots[knot].trajectory[0]
    far = knot + 4000
    beside = [unit(frames[knot], knot + 1)]
    apart = []
    for copies in (AMONG_KNOTS, ONCE):
        known = Trajectories(anchors.trajectory, {knot: seen, far: knots[8].trajectory[0]})
        with torch.no_grad():
            (found,) = run_stage(stage, beside, Knots((knot, far), copies=copies), known)
        apart.append(float((found.pictures - made).abs().mean()))
    assert apart[0] < 1e-5
    assert apart[1] > 10 * apart[0]


def test_units_that_lie_across_a_knot_are_refused(parts: tuple[LatentModel, SharedAttention]) -> None:
    stage, frames = stage_of(parts), clip(9)
    anchors, knots = references(stage, frames)
    both = torch.cat([frames[3], frames[5]])
    trajectories = {ordinal: knot.trajectory[0] for ordinal, knot in knots.items()}
    with torch.no_grad(), pytest.raises(OperatorError, match="between two knots"):
        run_stage(
            stage,
            [unit(both, 3, 5)],
            Knots((0, 4, 8)),
            Trajectories(anchors.trajectory, trajectories),
        )


@pytest.mark.parametrize("intervals", [1, 2])
def test_frames_do_not_know_how_many_intervals_their_unit_has(
    parts: tuple[LatentModel, SharedAttention], intervals: int
) -> None:
    """Eight intervals at once against units of one and of two."""
    stage, frames = stage_of(parts, budgets=TIGHT), clip(17)
    grid = tuple(range(0, 17, 2))
    with torch.no_grad():
        (anchors,) = run_stage(
            stage, [unit(torch.cat([frames[4], frames[12]]), 4, 12)], JointAnchors(), trace=True
        )
        scene = Trajectories(anchors.trajectory)
        knots = run_stage(stage, [unit(frames[o], o) for o in grid], Anchors(), scene, trace=True)
        traces = {o: knot.trajectory[0] for o, knot in zip(grid, knots, strict=True)}

        def rendered(first: int, last: int) -> dict[int, torch.Tensor]:
            mine = tuple(o for o in grid if first <= o <= last)
            odd = list(range(first + 1, last, 2))
            here = {o: z for o, z in traces.items() if o in mine}
            known = Trajectories(anchors.trajectory, here)
            made = run_stage(stage, [unit(frames[o], o) for o in odd], Knots(mine), known)
            return {o: done.pictures for o, done in zip(odd, made, strict=True)}

        whole = rendered(0, 16)
        parts_of_it = [rendered(at, at + 2 * intervals) for at in range(0, 16, 2 * intervals)]
    found = {o: picture for part in parts_of_it for o, picture in part.items()}
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[o], whole[o]) for o in whole)


def test_knots_made_together_are_those_made_one_by_one_for_fewer_replays(
    parts: tuple[LatentModel, SharedAttention],
) -> None:
    stage, frames = stage_of(parts, budgets=TIGHT), clip(9)
    with torch.no_grad():
        (anchors,) = run_stage(
            stage, [unit(torch.cat([frames[0], frames[8]]), 0, 8)], JointAnchors(), trace=True
        )
        scene = Trajectories(anchors.trajectory)
        stage.prior.calls = 0
        together = run_stage(stage, [unit(frames[o], o) for o in (2, 4, 6)], Anchors(), scene, trace=True)
        calls = stage.prior.calls
        alone = [
            run_stage(stage, [unit(frames[o], o)], Anchors(), scene, trace=True)[0] for o in (2, 4, 6)
        ]
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one.trajectory, other.trajectory)
        assert torch.equal(one.pictures, other.pictures)
    # Style and anchors once per step, beside three knots.
    assert calls == len(TIMESTEPS) * (1 + 1 + 3)
    assert stage.prior.calls == calls + 3 * len(TIMESTEPS) * (1 + 1 + 1)


def test_only_the_knots_that_are_read_are_replayed(parts: tuple[LatentModel, SharedAttention]) -> None:
    """Style, anchors and the knots around a frame, whatever else lies in the grid."""
    stage, frames = stage_of(parts), clip(9)
    anchors, knots = references(stage, frames)
    known = Trajectories(anchors.trajectory, {o: knot.trajectory[0] for o, knot in knots.items()})
    with torch.no_grad():
        for policy, replays in (("none", 1), ("anchors", 2), ("knots_hard", 3), ("knots", 4)):
            stage.prior.calls = 0
            run_stage(stage, [unit(frames[1], 1)], build_policy(policy, Surroundings(0, (0, 4, 8))), known)
            assert stage.prior.calls == len(TIMESTEPS) * (replays + 1), policy


def test_hat_weights_are_continuous_over_a_knot_and_in_mid_interval_where_hard_ones_switch(
    parts: tuple[LatentModel, SharedAttention],
) -> None:
    """One picture at two neighbouring places of a long grid: all that changes is who is read how much."""
    stage, frames = stage_of(parts), clip(9)
    _, knots = references(stage, frames)
    grid = (0, 400, 800)
    known = Trajectories(None, {o: knots[o // 100].trajectory[0] for o in grid})

    def step(here: int, there: int, *, hard: bool) -> float:
        units = [unit(frames[2], here), unit(frames[2], there)]
        with torch.no_grad():
            one, other = run_stage(stage, units, Knots(grid, hard=hard), known)
        return float((one.pictures - other.pictures).abs().max())

    switch = step(200, 201, hard=True)
    assert switch > 1e-3
    assert step(399, 401, hard=False) < 0.1 * switch
    assert step(200, 201, hard=False) < 0.1 * switch


def test_a_style_applied_to_itself_changes_nothing(parts: tuple[LatentModel, SharedAttention]) -> None:
    """The reference as content: what it reads is itself, so it comes out as if it had read nothing."""
    stage = stage_of(parts)
    own = dataclasses.replace(stage.solver, content=stage.solver.style.statistics)
    stage = dataclasses.replace(stage, solver=own)
    silent = dataclasses.replace(stage, style=None)

    def moved(content: torch.Tensor) -> float:
        with torch.no_grad():
            (read,) = run_stage(stage, [unit(content, 0)], Independent())
            (alone,) = run_stage(silent, [unit(content, 0)], Independent())
        return float((read.pictures - alone.pictures).square().mean().sqrt())

    assert moved(picture(8)) < 0.1 * moved(picture(1))


def test_a_knot_without_a_trajectory_is_named(parts: tuple[LatentModel, SharedAttention]) -> None:
    stage = stage_of(parts)
    with torch.no_grad(), pytest.raises(OperatorError, match="knot 4"):
        run_stage(stage, [unit(picture(1), 5)], Knots((4, 8)))


def test_an_unknown_policy_is_refused_with_those_that_exist() -> None:
    with pytest.raises(OperatorError, match=r"'median' is unknown.*knots_hard"):
        build_policy("median", Surroundings(0, (0, 4)))
