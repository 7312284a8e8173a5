"""Holes that move: a mask video is checked when a job is planned and read in the ranges of the frames."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.spec import parse_spec
from pipeline.enhancer import Enhancer
from pipeline.errors import SpecError
from pipeline.job_plan import plan_job
from pipeline.mask_clips import decode_masks, is_picture
from pipeline.pictures import load_pictures
from pipeline.settings import ConsistencySettings, JobSettings
from tests.pipeline.films import write_film
from tests.pipeline.test_enhancer import clip, config, task
from tests.pipeline.video.media import index_of

FRAMES, HEIGHT, WIDTH = 9, 32, 48
HOLE = {"kind": "inpainting", "mask": "m.mkv", "noise": 0.0}
FILL: dict[str, Any] = {"restore": {"degradation": HOLE, "solver": {"name": "dpir", "steps": 2}}}


def moving_holes(frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """White boxes that move to the right, on black; none in frame 3."""
    masks = np.zeros((frames, height, width, 3), np.uint8)
    for t in range(frames):
        if t != 3:
            masks[t, 8:16, 4 + 3 * t : 14 + 3 * t] = 255
    return masks


def by_ordinal(holes: np.ndarray, ordinals: range | list[int]) -> dict[int, dict[int, np.ndarray]]:
    return {0: {t: np.where(holes[t, ..., 0] > 127, 0, 255).astype(np.uint8) for t in ordinals}}


@pytest.mark.parametrize("batch", [1, 2])
def test_each_frame_is_filled_by_its_own_mask_however_the_scene_is_cut(batch: int) -> None:
    how = ConsistencySettings(sharing="none", knot_every=4, frames_per_batch=batch)
    enhancer = Enhancer(config(FILL, consistency=how))
    truth, holes = clip(FRAMES), moving_holes()
    broken = np.where(holes > 0, 255, truth)

    def chunk(first: int, last: int, grid: tuple[int, ...]) -> np.ndarray:
        own = dataclasses.replace(task(*range(first, last)), masks=by_ordinal(holes, range(first, last)))
        return enhancer.chunk(own, broken[first:last], grid, None, {})

    whole = chunk(0, 9, (0, 4, 8))
    assert np.array_equal(whole, np.concatenate([chunk(0, 4, (0, 4)), chunk(4, 9, (4, 8))]))
    kept = holes == 0
    assert abs(whole[kept].astype(int) - truth[kept]).max() <= 1
    error = abs(whole[~kept].astype(int) - truth[~kept]).mean()
    assert error < 0.5 * abs(broken[~kept].astype(int) - truth[~kept]).mean()
    enhancer.close()


def test_a_mask_for_one_frame_fills_as_the_same_picture_does() -> None:
    how = ConsistencySettings(sharing="none", knot_every=4)
    holes, frames = moving_holes(), clip(FRAMES)
    mask = by_ordinal(holes, [2])[0][2]
    moving = Enhancer(config(FILL, consistency=how))
    own = dataclasses.replace(task(2), masks={0: {2: mask}})
    got = moving.chunk(own, frames[[2]], (0, 4), None, {})
    moving.close()
    fixed = Enhancer(config(FILL, consistency=how, masks={0: mask}))
    assert np.array_equal(got, fixed.chunk(task(2), frames[[2]], (0, 4), None, {}))
    fixed.close()


def job(source: str, mask: str, output: Path) -> JobSettings:
    item = {"restore": {"degradation": {"kind": "inpainting", "mask": mask}}}
    data = {"name": "holes", "source": source, "output": str(output), "enhance": [item]}
    return parse_spec(data).to_settings()


def test_a_mask_video_is_part_of_the_plan_by_its_content_and_decodes_by_range(tmp_path: Path) -> None:
    source = write_film(tmp_path / "film.mkv", clip(FRAMES))
    settings = job(source, write_film(tmp_path / "a.mkv", moving_holes()), tmp_path / "out")
    pictures = load_pictures(settings)
    (size,) = pictures.mask_sizes.values()
    assert (size.height, size.width, size.frames) == (HEIGHT, WIDTH, FRAMES)
    assert plan_job(settings).rejected == ()
    assert not (tmp_path / "out").exists()
    masks = decode_masks(str(tmp_path / "a.mkv"), index_of(str(tmp_path / "a.mkv")), [2, 3, 5])
    expected = by_ordinal(moving_holes(), [2, 3, 5])[0]
    assert np.array_equal(masks, np.stack(list(expected.values())))
    other = job(source, write_film(tmp_path / "b.mkv", moving_holes()[::-1]), tmp_path / "out")
    assert load_pictures(other).mask_digests != pictures.mask_digests


@pytest.mark.parametrize(
    ("holes", "code", "told"),
    [
        (moving_holes(FRAMES, 16, 24), "mask_size", "24x16 pixels, the frames have 48x32"),
        (moving_holes(FRAMES + 1), "mask_frames", "10 frames, the video has 9"),
    ],
)
def test_a_mask_video_that_does_not_fit_rejects_the_video_with_what_to_do(
    tmp_path: Path, holes: np.ndarray, code: str, told: str
) -> None:
    source = write_film(tmp_path / "film.mkv", clip(FRAMES))
    (refused,) = plan_job(
        job(source, write_film(tmp_path / "mask.avi.mkv", holes), tmp_path / "out")
    ).rejected
    assert refused.code == code
    assert told in refused.error
    assert "give" in refused.error


def test_mask_videos_that_cannot_be_read_or_hide_all_are_refused_naming_the_field(tmp_path: Path) -> None:
    source = write_film(tmp_path / "film.mkv", clip(FRAMES))
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 8)
    white = moving_holes()
    white[5] = 255
    for mask, told in (
        (str(tmp_path / "noise.mp4"), "give a PNG or JPEG, or a video"),
        (str(tmp_path / "absent.mp4"), "absent.mp4"),
        (write_film(tmp_path / "white.mkv", white), "frame 5 of .* is white all over"),
    ):
        with pytest.raises(SpecError, match=told) as caught:
            plan_job(job(source, mask, tmp_path / "out"))
        assert caught.value.field == "enhance.0.restore.degradation.mask"


def test_pictures_and_videos_are_told_apart_by_name() -> None:
    assert is_picture("/a/b.PNG")
    assert is_picture("https://host/m.jpg?x=1")
    assert not is_picture("s3://bucket/m.mkv")
    assert not is_picture("/a/m.gif")
