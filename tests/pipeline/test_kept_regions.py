"""What a stylization keeps comes out bit for bit, whatever the cut; masks are checked in the plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from jobs.spec import parse_spec
from pipeline.enhancer import Enhancer
from pipeline.enhancer_config import FrameTask
from pipeline.errors import SourceError, SpecError
from pipeline.job_keys import JobKeys
from pipeline.job_plan import plan_job
from pipeline.pictures import load_pictures
from pipeline.settings import ConsistencySettings, JobSettings
from tests.pipeline.films import write_film
from tests.pipeline.graph.jobs import stylize_item, write_style
from tests.pipeline.test_enhancer import clip, config, task

FRAMES = 5
ALONE = ConsistencySettings(sharing="none", knot_every=4)


def styled_item(**fields: Any) -> dict[str, Any]:
    item = stylize_item("style.png")
    item["stylize"] |= fields
    item["stylize"]["method"]["steps"] = 2
    return item


def moving_boxes() -> np.ndarray:
    """Where frames are kept, bool [n, h, w]: a box that moves, and nothing in frame 2."""
    kept = np.zeros((FRAMES, 32, 48), dtype=bool)
    for t in range(FRAMES):
        if t != 2:
            kept[t, 8:20, 4 + 5 * t : 20 + 5 * t] = True
    return kept


def stored(kept: np.ndarray) -> np.ndarray:
    return np.where(kept, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def styles() -> dict[int, Any]:
    first = Enhancer(config(styled_item(), consistency=ALONE))
    style = first.style(0, clip(1, 64, 64)[0][::-1])
    first.close()
    second = Enhancer(config(styled_item()), {0: style})
    second.close()
    return second.styles


@pytest.fixture
def enhancer(styles: dict[int, Any]) -> Iterator[Enhancer]:
    item = styled_item(keep={"mask": "m.mkv", "feather": 4})
    made = Enhancer(config(item, consistency=ALONE))
    made.styles = styles
    yield made
    made.close()


def with_masks(kept: np.ndarray, ordinals: range) -> FrameTask:
    masks = {0: {t: stored(kept[t]) for t in ordinals}}
    return dataclasses.replace(task(*ordinals), masks=masks)


def test_kept_pixels_come_out_as_they_went_in_and_the_others_do_not(enhancer: Enhancer) -> None:
    frames, kept = clip(FRAMES), moving_boxes()
    made = enhancer.chunk(with_masks(kept, range(FRAMES)), frames, (0, 4), None, {})
    assert np.array_equal(made[kept], frames[kept])
    assert (made[2] != frames[2]).mean() > 0.5
    away = np.stack([cv2.distanceTransform((~k).astype(np.uint8), cv2.DIST_L2, 5) for k in kept[[0, 1]]])
    assert (made[[0, 1]][away > 4] != frames[[0, 1]][away > 4]).mean() > 0.5


def test_frames_are_kept_alike_however_the_scene_is_cut(enhancer: Enhancer) -> None:
    frames, kept = clip(FRAMES), moving_boxes()

    def chunk(first: int, last: int) -> np.ndarray:
        return enhancer.chunk(with_masks(kept, range(first, last)), frames[first:last], (0, 4), None, {})

    assert np.array_equal(chunk(0, 5), np.concatenate([chunk(0, 2), chunk(2, 5)]))


def test_references_and_sixteen_bit_frames_keep_their_pixels_too(styles: dict[int, Any]) -> None:
    from safetensors.numpy import load

    item = styled_item(keep={"mask": "m.png", "feather": 0}, colour_lock=True)
    kept = moving_boxes()[0]
    made = Enhancer(config(item, masks={0: stored(kept)}))
    made.styles = styles
    frames = clip(FRAMES, dtype=np.uint16)
    anchors = load(made.anchors(task(0, 4), frames[[0, 4]]))["pictures"]
    made.close()
    assert np.array_equal(anchors[:, kept], frames[[0, 4]][:, kept])
    assert (anchors[:, ~kept] != frames[[0, 4]][:, ~kept]).mean() > 0.5


def test_a_colour_lock_keeps_chroma_and_styles_luma(styles: dict[int, Any]) -> None:
    def chunk(**fields: Any) -> np.ndarray:
        made = Enhancer(config(styled_item(**fields), consistency=ALONE))
        made.styles = styles
        try:
            return made.chunk(task(0), frames, (0, 4), None, {})[0].astype(np.float32)
        finally:
            made.close()

    frames = clip(1)
    free, locked = chunk(), chunk(colour_lock=True)
    lumas = [picture @ np.float32([0.299, 0.587, 0.114]) for picture in (free, locked, frames[0])]
    assert abs(lumas[1] - lumas[0]).max() <= 1.0
    assert abs(lumas[1] - lumas[2]).mean() > 3.0
    (hue, own) = ((x - y[..., None]) for x, y in zip((locked, frames[0]), lumas[1:], strict=True))
    inside = (locked > 0).all(-1) & (locked < 255).all(-1)
    assert inside.mean() > 0.5
    assert abs(hue - own)[inside].max() <= 1.5


def test_a_mask_of_another_size_is_refused_naming_the_field(enhancer: Enhancer) -> None:
    small = {0: {0: np.zeros((16, 24), np.uint8)}}
    with pytest.raises(SourceError, match=r"stylize\.keep\.mask has 24x16 pixels, the frames have 48x32"):
        enhancer.chunk(dataclasses.replace(task(0), masks=small), clip(1), (0, 4), None, {})


def job(folder: Path, keep: Any) -> JobSettings:
    write_film(folder / "film.mkv", clip(FRAMES))
    style = str(write_style(folder / "style.png"))
    data = {
        "name": "kept",
        "source": str(folder / "film.mkv"),
        "output": str(folder / "out"),
        "enhance": [{"stylize": {"reference": style, "keep": keep}}],
    }
    return parse_spec(data).to_settings()


def write_mask(path: Path, kept: np.ndarray) -> str:
    cv2.imwrite(str(path), np.where(kept, 255, 0).astype(np.uint8))
    return str(path)


def test_what_is_kept_is_part_of_the_keys_by_its_content_and_its_feather(tmp_path: Path) -> None:
    def digest(keep: Any) -> str:
        settings = job(tmp_path, keep)
        return JobKeys(settings, "m", "cpu", mask_digests=load_pictures(settings).mask_digests).video(
            "s", "mp4"
        )

    kept = moving_boxes()
    first, same = (write_mask(tmp_path / name, kept[0]) for name in ("a.png", "b.png"))
    other = write_mask(tmp_path / "c.png", kept[1])
    assert digest(first) == digest({"mask": same, "feather": 8})
    assert digest(first) != digest(other)
    assert digest(first) != digest({"mask": first, "feather": 9})


def test_masks_that_do_not_fit_are_refused_when_the_job_is_planned(tmp_path: Path) -> None:
    small = write_mask(tmp_path / "small.png", np.eye(16, dtype=bool))
    (refused,) = plan_job(job(tmp_path, small)).rejected
    assert refused.code == "mask_size"
    assert refused.error.startswith("enhance.0.stylize.keep.mask has 16x16 pixels, the frames have 48x32")
    long = write_film(tmp_path / "long.mkv", np.zeros((FRAMES + 1, 32, 48, 3), np.uint8))
    (refused,) = plan_job(job(tmp_path, long)).rejected
    assert refused.code == "mask_frames"


def test_a_picture_that_keeps_everything_is_refused_and_a_frame_that_does_is_not(tmp_path: Path) -> None:
    white = np.full((FRAMES, 32, 48, 3), 255, np.uint8)
    settings = job(tmp_path, write_mask(tmp_path / "white.png", white[0, ..., 0] > 0))
    with pytest.raises(SpecError, match="nothing is left to stylize") as caught:
        plan_job(settings)
    assert caught.value.field == "enhance.0.stylize.keep.mask"
    assert plan_job(job(tmp_path, write_film(tmp_path / "white.mkv", white))).rejected == ()
