"""Replayed references: a frame is a function of itself and its references, whoever computes it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from operators.attention.install import install
from operators.attention.policies.base import Unit
from operators.attention.policies.knots import Knots
from operators.attention.policies.scene import Anchors, Independent, JointAnchors
from operators.attention.session import SharedAttention
from operators.errors import OperatorError
from operators.models import BoundPrior, LatentModel
from operators.replay import Finished, Stage, StyleReading, Trajectories, run_stage
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


def stage_of(parts: tuple[LatentModel, SharedAttention], *, bias: float = 0.7) -> Stage:
    model, session = parts
    prior = BoundPrior(model, listener=session)
    with torch.no_grad():
        style = style_reference(picture(8), TIMESTEPS, prior)
        content = latent_statistics(model.encode(picture(1)))
    solver = StyleAligned(TIMESTEPS, prior, style, content, 1.0)
    return Stage(solver, prior, session, StyleReading(style, bias, align=True, norms=False))


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
    finished = run_stage(stage, units, Knots(tuple(grid)), Trajectories(anchors.trajectory, trajectories))
    return {ordinal: done.pictures for ordinal, done in zip(ordinals, finished, strict=True)}


def test_frames_are_the_same_bits_alone_together_and_in_any_order(
    parts: tuple[LatentModel, SharedAttention],
) -> None:
    stage, frames = stage_of(parts), clip(9)
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
