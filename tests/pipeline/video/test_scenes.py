"""Cuts, flashes and fades on pictures made for the purpose, so that the truth is known."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import given
from hypothesis import strategies as st
from scenedetect.common import FrameTimecode
from scenedetect.detector import FlashFilter

from pipeline.plan import plan_scenes
from pipeline.settings import ConsistencySettings
from pipeline.video.flashes import FLASH_FRAMES, black_runs, flash_frames
from pipeline.video.looks import LOOK_BYTES
from pipeline.video.scenes import SceneFinder, find_cuts
from tests.pipeline.looks import index_with
from tests.pipeline.video.media import index_of

Clip = list[np.ndarray]


def scenery(seed: int) -> np.ndarray:
    """A picture of soft blobs, much wider than a frame: uint8 [120, 640, 3]."""
    random = np.random.default_rng(seed)
    grey, tint = random.uniform(40, 160, (9, 40, 1)), random.uniform(-25, 25, (9, 40, 3))
    return cv2.resize((grey + tint).astype(np.uint8), (640, 120), interpolation=cv2.INTER_CUBIC)


def pan(seed: int, frames: int, pace: int = 2) -> Clip:
    """A camera that moves ``pace`` pixels a frame over some scenery."""
    wide = scenery(seed)
    return [wide[:, pace * i : pace * i + 160] for i in range(frames)]


def lit(picture: np.ndarray, light: float | np.ndarray) -> np.ndarray:
    return np.clip(picture.astype(float) + light, 0, 255).astype(np.uint8)


def faded(clip: Clip, levels: Sequence[float]) -> Clip:
    return [(picture * level).astype(np.uint8) for picture, level in zip(clip, levels, strict=True)]


def seen(clip: Clip) -> SceneFinder:
    finder = SceneFinder(Fraction(25))
    for picture in clip:
        finder.feed(VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24"))
    return finder


def flashes_of(clip: Clip) -> list[int]:
    return np.flatnonzero(flash_frames(seen(clip).looks())).tolist()


def knots_of(clip: Clip) -> list[tuple[int, ...]]:
    finder = seen(clip)
    scenes = plan_scenes(index_with(finder.looks(), finder.cuts()), ConsistencySettings())
    return [scene.knots for scene in scenes]


@pytest.mark.parametrize("light", [25, 70, 150, 255, -60, -255])
@pytest.mark.parametrize("length", [1, 2, FLASH_FRAMES])
def test_a_flash_or_a_dropout_is_seen_and_does_not_cut(light: int, length: int) -> None:
    clip = pan(1, 60)
    clip[30 : 30 + length] = [lit(picture, light) for picture in clip[30 : 30 + length]]
    assert seen(clip).cuts() == (0,)
    assert flashes_of(clip) == list(range(30, 30 + length))


def test_a_flash_that_lights_half_the_picture_is_one_too() -> None:
    clip = pan(1, 60)
    half = clip[30].copy()
    half[60:] = lit(half[60:], 120)
    clip[30] = half
    assert flashes_of(clip) == [30]
    assert seen(clip).cuts() == (0,)


def test_a_storm_of_flashes_leaves_the_scene_whole_and_its_knots_in_between() -> None:
    clip = pan(2, 96)
    struck = [10, 11, 16, 20, 21, 22, 32, 40, 48, 49, 64, 70, 80]
    for i in struck:
        clip[i] = lit(clip[i], 160)
    assert flashes_of(clip) == struck
    (knots,) = knots_of(clip)
    assert not set(knots) & set(struck)
    assert max(np.diff(knots)) <= 16


def test_a_cut_soon_after_a_flash_is_not_missed() -> None:
    clip = [*pan(1, 45), *pan(4, 45)]
    clip[41] = lit(clip[41], 200)
    assert seen(clip).cuts() == (0, 45)
    assert flashes_of(clip) == [41]


def test_a_flash_soon_after_a_cut_adds_no_cut() -> None:
    clip = [*pan(1, 45), *pan(4, 45)]
    clip[48] = lit(clip[48], 200)
    assert seen(clip).cuts() == (0, 45)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_short_scene_between_two_others_is_a_scene_and_no_flash(length: int) -> None:
    between = [lit(picture, 255) for picture in pan(3, length)]
    clip = [*pan(1, 40), *between, *(lit(picture, 40) for picture in pan(4, 40))]
    assert flashes_of(clip) == []
    assert seen(clip).cuts() == (0, 40, 40 + length)


def test_a_light_that_stays_on_is_no_flash() -> None:
    clip = [*pan(1, 30), *(lit(picture, 60) for picture in pan(1, 60)[30:])]
    assert flashes_of(clip) == []


def test_fast_motion_and_flickering_film_are_no_flashes() -> None:
    flicker = np.random.default_rng(5).uniform(-4.5, 4.5, 200)
    old_film = [lit(picture, light) for picture, light in zip(pan(1, 200), flicker, strict=True)]
    assert flashes_of(old_film) == []
    assert flashes_of(pan(6, 60, pace=8)) == []


def test_a_fade_through_black_starts_a_scene_where_it_is_darkest() -> None:
    out = [*[1.0] * 40, *np.linspace(1, 0, 24)]
    clip = [*faded(pan(1, 64), out), *faded(pan(4, 64), out[::-1])]
    (start, stop), *others = black_runs(seen(clip).looks())
    assert not others
    assert start <= 64 <= stop
    cuts = seen(clip).cuts()
    assert len(cuts) == 2
    assert start <= cuts[1] <= stop


@pytest.mark.parametrize("light", [0.12, 0.2, 0.4])
def test_a_cut_between_two_dark_scenes_is_found_and_darkness_itself_cuts_nothing(light: float) -> None:
    dark = faded([*pan(1, 40), *pan(4, 40)], [light] * 80)
    assert seen(dark).cuts() == (0, 40)


def test_a_fade_at_either_end_and_a_black_pause_behind_a_cut_add_no_scene() -> None:
    black = [np.zeros((120, 160, 3), np.uint8)] * 12
    up = faded(pan(1, 64), [*np.linspace(0, 1, 30), *[1.0] * 34])
    assert seen([*black, *up]).cuts() == (0,)
    assert seen([*up[::-1], *black]).cuts() == (0,)
    assert seen([*pan(1, 40), *black, *pan(4, 40)]).cuts() == (0, 40, 52)


def test_knots_are_denser_in_a_dissolve_than_around_it_and_it_is_no_cut() -> None:
    here, there = scenery(1)[:, :160], lit(scenery(4)[:, :160], 90)
    mixed = [cv2.addWeighted(here, 1 - w, there, w, 0) for w in np.linspace(0, 1, 20)]
    clip = [*[here] * 40, *mixed, *[there] * 40]
    assert seen(clip).cuts() == (0,)
    (knots,) = knots_of(clip)
    gaps = list(itertools.pairwise(knots))
    assert [b - a for a, b in gaps if b <= 40] == [16, 16]
    assert all(b - a <= 10 for a, b in gaps if a > 32 and b <= 60)
    assert len([a for a, b in gaps if a >= 60]) <= 3


@given(st.lists(st.sampled_from([0.0, 5.0, 26.9, 27.0, 40.0, 60.0, 99.0]), min_size=1, max_size=120))
def test_cuts_are_those_of_a_filter_that_is_asked_about_every_frame(scores: list[float]) -> None:
    rate = Fraction(30_000, 1001)
    filters = [(27.0, FlashFilter(FlashFilter.Mode.MERGE, 8)), (60.0, FlashFilter(FlashFilter.Mode.MERGE, 1))]
    expected = {0}
    for threshold, merging in filters:
        for ordinal, score in enumerate(scores):
            found = merging.filter(FrameTimecode(ordinal, rate), score >= threshold)
            expected.update(cut.frame_num for cut in found)
    assert find_cuts(scores, np.zeros(len(scores), bool), rate) == tuple(sorted(expected))


def test_motion_follows_the_pace_of_the_camera_and_not_the_grain() -> None:
    slow, fast = (seen(pan(1, 30, pace)).looks().motions()[1:].mean() for pace in (1, 4))
    assert 3 < fast / slow < 5
    grain = np.random.default_rng(1).normal(0, 6, (30, 120, 160, 3))
    noisy = [lit(pan(1, 1)[0], noise) for noise in grain]
    assert seen(noisy).looks().motions()[1:].mean() < slow


def test_looks_are_the_same_for_equal_pictures_and_tell_places_apart() -> None:
    left = np.zeros((120, 160, 3), np.uint8)
    left[:60, :80] = 255
    right = left[:, ::-1]
    cells = seen([left, left, right]).looks().looks().astype(int)
    assert cells.shape == (3, LOOK_BYTES)
    assert np.array_equal(cells[0], cells[1])
    assert cells[0][:4].tolist() == [255, 255, 0, 0]
    assert cells[2][:4].tolist() == [0, 0, 255, 255]


def test_the_same_is_found_in_a_coded_file(tmp_path: Path) -> None:
    clip = [*pan(1, 40), *pan(4, 40)]
    clip[20] = lit(clip[20], 180)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"crf": "23", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        for picture in clip:
            out.mux(video.encode(VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")))
        out.mux(video.encode(None))
    index = index_of(str(path))
    assert index.cuts == (0, 40)
    assert index.looks.frames == index.frames == 80
    assert np.flatnonzero(flash_frames(index.looks)).tolist() == [20]


def test_measuring_costs_26_bytes_a_frame() -> None:
    looks = seen(pan(1, 50)).looks()
    assert len(looks.motion) + len(looks.cells) == 26 * 50
