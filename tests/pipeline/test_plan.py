"""The absolute plan: chunks tile, knots cover, and the cut never moves the grid."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from pipeline.plan import VideoPlan, knot_intervals, plan_scene, plan_video
from pipeline.settings import ConsistencySettings
from pipeline.video.types import Colour, Geometry, VideoIndex


def index_of(frames: int, cuts: tuple[int, ...] = (0,), width: int = 64, height: int = 48) -> VideoIndex:
    return VideoIndex(
        source_digest="0" * 64,
        container="mp4",
        stream=0,
        streams=(),
        codec="h264",
        pix_fmt="yuv420p",
        bit_depth=8,
        time_base=Fraction(1, 25),
        average_rate=Fraction(25),
        pts=tuple(range(frames)),
        durations=(1,) * frames,
        frame_hashes=(0,) * frames,
        key_pts=(0,),
        key_dts=(0,),
        cuts=cuts,
        colour=Colour(1, 1, 2, 2, "assumed", "assumed"),
        geometry=Geometry(width, height, Fraction(1), None),
        interlaced_frames=0,
        decode_errors=0,
        warnings=(),
    )


@st.composite
def videos(draw: st.DrawFn) -> VideoIndex:
    frames = draw(st.integers(1, 600))
    cuts = draw(st.sets(st.integers(1, frames - 1), max_size=5)) if frames > 1 else set()
    return index_of(frames, (0, *sorted(cuts)))


settings = st.builds(
    ConsistencySettings,
    anchors=st.integers(1, 8),
    knot_every=st.integers(2, 32),
    knots_per_chunk=st.integers(1, 12),
)


@given(videos(), settings)
def test_chunks_tile_the_video_and_gops_tile_the_chunks(index: VideoIndex, how: ConsistencySettings) -> None:
    plan = plan_video(index, how, 1)
    ordinals = [o for chunk in plan.chunks for o in range(chunk.first, chunk.last)]
    assert ordinals == list(range(index.frames))
    assert [chunk.number for chunk in plan.chunks] == list(range(len(plan.chunks)))
    for chunk in plan.chunks:
        assert sum(chunk.gops) == chunk.last - chunk.first
        assert min(chunk.gops) >= 1
        scene = plan.scenes[chunk.scene]
        assert scene.first <= chunk.first < chunk.last <= scene.last


@given(videos(), settings)
def test_the_knots_of_a_chunk_bracket_all_its_frames(index: VideoIndex, how: ConsistencySettings) -> None:
    plan = plan_video(index, how, 1)
    for chunk in plan.chunks:
        assert chunk.knots[0] == chunk.first
        assert chunk.knots[-1] >= chunk.last - 1
        assert set(chunk.knots) <= set(plan.scenes[chunk.scene].knots)
        gaps = [b - a for a, b in zip(chunk.knots, chunk.knots[1:], strict=False)]
        assert all(gap <= how.knot_every for gap in gaps)


@given(videos(), settings, st.integers(1, 12))
def test_scenes_knots_anchors_and_gops_do_not_depend_on_the_size_of_chunks(
    index: VideoIndex, how: ConsistencySettings, other: int
) -> None:
    def gops(plan: VideoPlan) -> list[int]:
        return [gop for chunk in plan.chunks for gop in chunk.gops]

    one, two = plan_video(index, how, 1), plan_video(index, replace(how, knots_per_chunk=other), 1)
    assert one.scenes == two.scenes
    assert gops(one) == gops(two)


@given(st.integers(0, 50), st.integers(1, 400), settings)
def test_anchors_are_knots_and_knots_include_both_ends(
    first: int, length: int, how: ConsistencySettings
) -> None:
    scene = plan_scene(0, first, first + length, how)
    assert scene.knots[0] == first
    assert scene.knots[-1] == first + length - 1
    assert 1 <= len(scene.anchors) <= how.anchors
    assert set(scene.anchors) <= set(scene.knots)
    assert len(set(scene.anchors)) == len(scene.anchors)
    assert sum(b - a for a, b in knot_intervals(scene)) == length


def test_large_frames_make_smaller_chunks_but_never_none() -> None:
    how = ConsistencySettings(knot_every=16, knots_per_chunk=8)
    small = plan_video(index_of(256), how, 1)
    large = plan_video(index_of(256, width=3840, height=2160), how, 1)
    assert len(small.chunks) == 2
    assert len(large.chunks) == 16

