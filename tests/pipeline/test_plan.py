"""The absolute plan: chunks tile, knots cover, and the cut never moves the grid."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.knots import KNOT_TRAVEL, LEAST_GAP
from pipeline.plan import VideoPlan, knot_intervals, plan_scenes, plan_video
from pipeline.settings import ConsistencySettings
from pipeline.video.flashes import flash_frames
from pipeline.video.looks import LOOK_BYTES, FrameLooks
from pipeline.video.types import Geometry, VideoIndex
from tests.pipeline.looks import index_with, looks_of, still


@st.composite
def videos(draw: st.DrawFn) -> VideoIndex:
    """Up to six scenes, some calm, some fast, with flashes and looks at random."""
    frames = draw(st.integers(1, 600))
    cuts = draw(st.sets(st.integers(1, frames - 1), max_size=5)) if frames > 1 else set()
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    cells = random.integers(0, 256, (frames, LOOK_BYTES)).astype(np.uint8)
    cells[random.random(frames) < 0.9] = 90
    pace = draw(st.sampled_from([0, 2, 6, 40]))
    motion = random.integers(0, 64 * pace + 1, frames).astype("<u2")
    return index_with(FrameLooks(motion.tobytes(), cells.tobytes()), (0, *sorted(cuts)))


policies = st.builds(
    ConsistencySettings,
    anchors=st.integers(1, 8),
    knots=st.sampled_from(["adaptive", "even"]),
    knot_every=st.integers(2, 32),
    knots_per_chunk=st.integers(1, 12),
)


def gaps(knots: tuple[int, ...]) -> list[int]:
    return [right - left for left, right in itertools.pairwise(knots)]


def knots_of(looks: FrameLooks, **changes: object) -> tuple[int, ...]:
    how = ConsistencySettings(**{"knots": "adaptive", **changes})  # type: ignore[arg-type]
    (scene,) = plan_scenes(index_with(looks), how)
    return scene.knots


@given(videos(), policies)
def test_chunks_tile_the_video_and_gops_tile_the_chunks(index: VideoIndex, how: ConsistencySettings) -> None:
    plan = plan_video(index, how, 1)
    ordinals = [o for chunk in plan.chunks for o in range(chunk.first, chunk.last)]
    assert ordinals == list(range(index.frames))
    assert [chunk.number for chunk in plan.chunks] == list(range(len(plan.chunks)))
    for chunk in plan.chunks:
        assert sum(chunk.gops) == chunk.last - chunk.first
        assert min(chunk.gops) >= 1
        assert len(chunk.gops) <= how.knots_per_chunk
        scene = plan.scenes[chunk.scene]
        assert scene.first <= chunk.first < chunk.last <= scene.last


@given(videos(), policies)
def test_the_knots_of_a_chunk_bracket_all_its_frames(index: VideoIndex, how: ConsistencySettings) -> None:
    plan = plan_video(index, how, 1)
    for chunk in plan.chunks:
        assert chunk.knots[0] == chunk.first
        assert chunk.knots[-1] >= chunk.last - 1
        scene = plan.scenes[chunk.scene]
        at = scene.knots.index(chunk.first)
        assert chunk.knots == scene.knots[at : at + len(chunk.knots)]
        inside = [knot for knot in chunk.knots if knot < chunk.last]
        starts = inside[:-1] if chunk.last == scene.last and len(inside) > 1 else inside
        assert len(chunk.gops) == len(starts)


@given(videos(), policies, st.integers(1, 12))
def test_scenes_knots_anchors_and_gops_do_not_depend_on_the_size_of_chunks(
    index: VideoIndex, how: ConsistencySettings, other: int
) -> None:
    def gops(plan: VideoPlan) -> list[int]:
        return [gop for chunk in plan.chunks for gop in chunk.gops]

    one, two = plan_video(index, how, 1), plan_video(index, replace(how, knots_per_chunk=other), 1)
    assert one.scenes == two.scenes
    assert gops(one) == gops(two)


@given(videos(), policies)
def test_knots_lie_between_the_least_and_the_largest_gap_and_include_both_ends(
    index: VideoIndex, how: ConsistencySettings
) -> None:
    least = min(LEAST_GAP, how.knot_every // 2)
    for scene in plan_scenes(index, how):
        assert scene.knots[0] == scene.first
        assert scene.knots[-1] == scene.last - 1
        assert all(gap <= how.knot_every for gap in gaps(scene.knots))
        if scene.last - 1 - scene.first >= least:
            assert all(gap >= least for gap in gaps(scene.knots))
        assert sum(b - a for a, b in knot_intervals(scene)) == scene.last - scene.first


@given(videos(), policies)
def test_anchors_are_knots_each_once_and_as_many_as_the_scene_is_worth(
    index: VideoIndex, how: ConsistencySettings
) -> None:
    flashes = flash_frames(index.looks)
    for scene in plan_scenes(index, how):
        worth = min(how.anchors, -(-(scene.last - scene.first) // 64) + 1)
        assert 1 <= len(scene.anchors) <= worth
        assert set(scene.anchors) <= set(scene.knots)
        assert list(scene.anchors) == sorted(set(scene.anchors))
        if not all(flashes[knot] for knot in scene.knots):
            assert not any(flashes[anchor] for anchor in scene.anchors)


@given(videos(), policies)
def test_a_plan_is_the_same_whenever_it_is_made(index: VideoIndex, how: ConsistencySettings) -> None:
    assert plan_video(index, how, 1) == plan_video(replace(index), replace(how), 1)


@given(st.lists(st.integers(0, 40), min_size=40, max_size=200), st.integers(20, 39))
def test_a_knot_depends_on_the_frames_before_it_alone(pace: list[int], changed: int) -> None:
    frames = len(pace)
    one = knots_of(looks_of([100] * frames, pace))
    two = knots_of(looks_of([100] * frames, [*pace[:changed], *reversed(pace[changed:])]))
    # But for the last gaps of a scene, which leave no stump.
    settled = min(changed, frames - LEAST_GAP - 16)
    assert [k for k in one if k < settled] == [k for k in two if k < settled]


def test_still_pictures_have_a_knot_every_so_many_frames() -> None:
    assert knots_of(still(65)) == (0, 16, 32, 48, 64)
    assert knots_of(still(65), knots="even") == (0, 16, 32, 48, 64)
    assert knots_of(still(1)) == (0,)


def test_the_last_gap_is_no_stump() -> None:
    assert knots_of(still(34)) == (0, 16, 29, 33)
    assert knots_of(still(18)) == (0, 13, 17)


def test_fast_motion_halves_the_gap_and_very_fast_motion_stops_at_the_least() -> None:
    calm, fast, wild = (knots_of(looks_of([100] * 97, [pace] * 97)) for pace in (1, 8, 60))
    assert set(gaps(calm)) == {16}
    assert set(gaps(fast)) == {KNOT_TRAVEL // 8}
    assert set(gaps(wild)) == {LEAST_GAP}
    even = looks_of([100] * 97, [60] * 97)
    assert knots_of(even, knots="even") == calm


def test_knots_are_dense_where_a_picture_fades_and_only_there() -> None:
    fade = [200] * 48 + [200 - 8 * i for i in range(1, 25)] + [8] * 48
    knots = knots_of(looks_of(fade))
    assert [k for k in knots if 48 <= k <= 72] == [48, 56, 64]
    assert set(gaps(tuple(k for k in knots if k <= 48))) == {16}


def test_a_flash_on_the_grid_moves_the_knot_to_the_frame_before_and_costs_none() -> None:
    lit = [100] * 64
    lit[16] = lit[32] = lit[33] = 180
    index = index_with(looks_of(lit))
    (scene,) = plan_scenes(index, ConsistencySettings(knots="adaptive"))
    assert scene.knots == (0, 15, 31, 47, 63)
    assert scene.flashes == 3
    (even,) = plan_scenes(index, ConsistencySettings(knots="even"))
    assert even.knots == scene.knots


def test_a_scene_that_ends_in_a_flash_keeps_it_as_knot_but_not_as_anchor() -> None:
    lit = [100] * 40
    lit[19] = 200
    scenes = plan_scenes(index_with(looks_of(lit), (0, 20)), ConsistencySettings())
    assert scenes[0].knots[-1] == 19
    assert 19 not in scenes[0].anchors


def test_anchors_show_what_differs_most_and_the_scene_at_its_most_usual() -> None:
    # Most frames are 100; the rest differs by 60 (at the knot 96) and by 20 (at the knot 16).
    lit = [100] * 129
    lit[10:24] = [120] * 14
    lit[94:100] = [160] * 6
    index = index_with(looks_of(lit, [0] * 129))
    found = {n: plan_scenes(index, ConsistencySettings(anchors=n))[0].anchors for n in (1, 2, 3)}
    assert found == {1: (0,), 2: (0, 96), 3: (0, 16, 96)}


@given(st.integers(0, 2**32), st.integers(1, 400))
def test_the_only_anchor_is_the_knot_with_the_least_sum_of_squared_distances(seed: int, frames: int) -> None:
    cells = np.random.default_rng(seed).integers(90, 99, (frames, LOOK_BYTES)).astype(np.uint8)
    looks = FrameLooks(bytes(2 * frames), cells.tobytes())
    (scene,) = plan_scenes(index_with(looks), ConsistencySettings(anchors=1))
    every = cells.astype(int)
    sums = {knot: int(((every - every[knot]) ** 2).sum()) for knot in scene.knots}
    assert scene.anchors == (min(sums, key=lambda knot: (sums[knot], knot)),)


def test_equal_looks_leave_the_choice_to_the_earliest_knots() -> None:
    (scene,) = plan_scenes(index_with(still(200)), ConsistencySettings())
    assert scene.anchors == (0, 16, 32, 48)


def test_black_frames_are_no_anchors_unless_all_are_black() -> None:
    faded = looks_of([100] * 64 + [0] * 64)
    (scene,) = plan_scenes(index_with(faded), ConsistencySettings())
    assert all(anchor < 64 for anchor in scene.anchors)
    (black,) = plan_scenes(index_with(looks_of([0] * 64)), ConsistencySettings())
    assert black.anchors == (0, 16)


def test_large_frames_make_smaller_chunks_but_never_none() -> None:
    how = ConsistencySettings(knot_every=16, knots_per_chunk=8)
    index = index_with(still(257))
    small = plan_video(index, how, 1)
    large = plan_video(replace(index, geometry=Geometry(3840, 2160, Fraction(1), None)), how, 1)
    assert len(small.chunks) == 2
    assert len(large.chunks) == 16


def test_chunks_of_uneven_intervals_stay_below_the_bytes_too() -> None:
    # 10.8 million bytes a frame: 24 frames fit, three intervals of eight or one of sixteen.
    lit = looks_of([100] * 129, [8] * 65 + [1] * 64)
    index = index_with(lit, geometry=Geometry(2560, 1400, Fraction(1), None))
    plan = plan_video(index, ConsistencySettings(knots="adaptive"), 1)
    frames = [chunk.last - chunk.first for chunk in plan.chunks]
    assert max(frames) <= 24
    assert {len(chunk.gops) for chunk in plan.chunks} == {1, 2, 3}
