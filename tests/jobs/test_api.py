"""The Python functions: as the commands, and frames in, frames out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs import api
from pipeline.errors import SourceError, SpecError
from tests.jobs.media import write_clip

DENOISE = {
    "restore": {"degradation": {"kind": "denoise", "noise": 0.05}, "solver": {"name": "dpir", "steps": 1}}
}
KNOTS = {"knot_every": 4, "anchors": 2}
README = Path(__file__).resolve().parents[2] / "README.md"


def frames(count: int, dtype: Any = np.uint8, shade: float = 0.0) -> np.ndarray:
    y, x = np.mgrid[0:32, 0:48]
    peak = np.iinfo(dtype).max
    waves = [
        0.4 + shade + 0.2 * np.sin((x + 2 * n) / 6.0) + 0.1 * np.cos((y - n) / 4.0) for n in range(count)
    ]
    return np.stack([np.stack([w, 0.9 - w, w**2], -1) * peak for w in waves]).clip(0, peak).astype(dtype)


def test_plan_takes_a_path_plain_data_or_a_spec_and_writes_nothing(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4")
    job = {"name": "a", "source": str(tmp_path / "*.mp4"), "output": str(tmp_path / "out")}
    path = tmp_path / "job.yaml"
    path.write_text("".join(f"{name}: {value}\n" for name, value in job.items()))
    before = sorted(tmp_path.rglob("*"))
    for given in (path, str(path), job, api.spec_of(job)):
        found = api.plan(given, overrides=["seed=3"])
        assert (found.videos, found.frames) == (1, 12)
    assert sorted(tmp_path.rglob("*")) == before
    assert api.spec_of(job, ["encode.crf=20"]).encode.crf == 20
    assert "encode" not in job


def test_a_bad_job_is_refused_by_field(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        api.run({"name": "a", "source": "x", "output": str(tmp_path), "seed": -1})
    assert caught.value.facts["field"] == "seed"


def test_run_publishes_reports_and_tells_who_computed_what(tmp_path: Path) -> None:
    write_clip(tmp_path / "in" / "a.mp4")
    (tmp_path / "in" / "bad.mp4").write_bytes(b"")
    job = {
        "name": "api",
        "source": str(tmp_path / "in" / "*.mp4"),
        "output": str(tmp_path / "out"),
        "cluster": {"address": "local", "actors": [1, 1]},
    }
    seen: list[str] = []
    summary = api.run(job, on_event=lambda event: seen.append(event.kind))
    assert (summary.done, summary.quarantined) == (1, 1)
    assert {"phase", "chunk", "video", "quarantined"} <= set(seen)
    report = tmp_path / "out" / "runs" / summary.run_id / "report.html"
    assert "timeline" in report.read_text()
    assert (tmp_path / "out" / "videos" / "a.mp4").exists()
    from pipeline.manifest import read_chunk_rows
    from pipeline.store import Store

    (row,) = read_chunk_rows(Store(str(tmp_path / "out")))
    assert row.actor.count("/") == 1
    assert 0 < row.begun <= row.ended


def test_enhance_gives_pictures_that_do_not_depend_on_chunks_or_on_earlier_calls() -> None:
    clip = frames(9)
    whole = api.enhance(clip, [DENOISE], seed=7, consistency=KNOTS)
    pieces = api.enhance(clip, [DENOISE], seed=7, consistency={**KNOTS, "knots_per_chunk": 1})
    assert whole.shape == clip.shape
    assert whole.dtype == np.uint8
    assert not np.array_equal(whole, clip)
    assert np.array_equal(whole, pieces)


def test_a_cut_makes_two_scenes_that_do_not_see_each_other() -> None:
    dark, light = frames(9), 255 - frames(9, shade=-0.3)
    alone = api.enhance(dark, [DENOISE], consistency=KNOTS)
    both = api.enhance(np.concatenate([dark, light]), [DENOISE], consistency=KNOTS)
    assert np.array_equal(both[:9], alone)


def test_enlargement_sixteen_bits_coupled_frames_and_an_empty_list() -> None:
    double = {
        "restore": {
            "degradation": {"kind": "super_resolution", "scale": 2},
            "solver": {"name": "dpir", "steps": 1},
        }
    }
    assert api.enhance(frames(1, np.uint16), [double]).shape == (1, 64, 96, 3)
    blurred = {
        "restore": {
            "degradation": {"kind": "temporal_blur", "taps": 3, "noise": 0.01},
            "solver": {"name": "dpir", "steps": 1},
        }
    }
    clip = frames(5)
    assert api.enhance(clip, [blurred], consistency={"sharing": "none", "knot_every": 4}).shape == clip.shape
    assert np.array_equal(api.enhance(clip, []), clip)


def test_styles_are_read_from_pictures(tmp_path: Path) -> None:
    import cv2

    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "style.png"), picture)
    stylize = {
        "stylize": {"reference": str(tmp_path / "style.png"), "method": {"name": "style_aligned", "steps": 2}}
    }
    clip = frames(2)
    assert not np.array_equal(api.enhance(clip, [stylize], consistency=KNOTS), clip)


@pytest.mark.parametrize(
    ("given", "steps", "more", "field"),
    [
        (np.zeros((2, 8, 8, 3)), [DENOISE], {}, "frames"),
        (np.zeros((8, 8, 3), np.uint8), [DENOISE], {}, "frames"),
        (np.zeros((0, 8, 8, 3), np.uint8), [DENOISE], {}, "frames"),
        ([1, 2], [DENOISE], {}, "frames"),
        (frames(1), [{"restore": {}}], {}, "enhance.0.restore.degradation"),
        (frames(1), [{"restore": {"degradation": "auto"}}], {}, "enhance.0.restore.degradation"),
        (frames(1), [DENOISE], {"seeed": 1}, "seeed"),
        (frames(1), [DENOISE], {"encode": {"crf": 3}}, "encode"),
        (frames(1), [DENOISE], {"model": "/nowhere"}, "model"),
    ],
)
def test_what_enhance_cannot_take_is_refused_by_name(given: Any, steps: Any, more: Any, field: str) -> None:
    with pytest.raises(SpecError) as caught:
        api.enhance(given, steps, **more)
    assert caught.value.facts["field"] == field


def test_a_list_that_does_not_fit_the_frames_is_refused() -> None:
    holes = {
        "restore": {
            "degradation": {"kind": "inpainting", "boxes": [[40, 0, 20, 8]]},
            "solver": {"name": "dpir"},
        }
    }
    with pytest.raises(SourceError):
        api.enhance(frames(1), [holes])


def test_the_readmes_python_compiles_and_uses_what_is_there() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    compile(block, "README.md", "exec")
    (names,) = re.findall(r"from jobs.api import (.*)", block)
    assert set(names.split(", ")) <= set(api.__all__)
    frames = np.zeros((3, 24, 32, 3), np.uint8)
    call = block[block.index("denoise = ") :].replace('{"knot_every": 8}', '{"knot_every": 2}')
    space: dict[str, Any] = {"enhance": api.enhance, "frames": frames}
    exec(call, space)
    assert space["restored"].shape == frames.shape
