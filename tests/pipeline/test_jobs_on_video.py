"""Jobs whose frames need more than their own pixels, from file to file: the same for any cut in chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.spec import parse_spec
from pipeline.settings import JobSettings
from pipeline.video.rgb import decode_rgb
from tests.operators.estimation.scenes import noisy, pan
from tests.pipeline.direct import run_directly
from tests.pipeline.films import write_film
from tests.pipeline.test_enhancer import clip
from tests.pipeline.test_mask_videos import moving_holes
from tests.pipeline.video.media import index_of

FRAMES = 9
BLUR = {"kind": "temporal_blur", "taps": 3, "noise": 0.01}
MOTION = {"kind": "deblur", "kernel": "motion", "length": 3.0}


def job(
    source: str, output: Path, *enhance: Any, knots_per_chunk: int = 8, sharing: str = "none"
) -> JobSettings:
    return parse_spec(
        {
            "name": "video",
            "source": source,
            "output": str(output),
            "enhance": [{"restore": restore} for restore in enhance],
            "consistency": {
                "sharing": sharing,
                "knot_every": 4,
                "anchors": 2,
                "knots_per_chunk": knots_per_chunk,
            },
            "encode": {"codec": "ffv1"},
        }
    ).to_settings()


def frames_of(path: str) -> np.ndarray:
    index = index_of(path)
    return decode_rgb(path, index, range(index.frames))


@pytest.mark.parametrize("kind", ["mask video", "temporal blur", "blind blur"])
def test_chunks_do_not_show(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, holes = clip(FRAMES), moving_holes()
    film = np.where(holes > 0, 255, truth) if kind == "mask video" else truth
    source = write_film(tmp_path / "film.mkv", film.astype(np.uint8))
    restore: dict[str, Any] = {
        "mask video": {"degradation": {"kind": "inpainting", "mask": write_film(tmp_path / "m.mkv", holes)}},
        "temporal blur": {"degradation": BLUR},
        "blind blur": {"degradation": MOTION, "solver": {"name": "blind_dps", "steps": 10, "strength": 0.1}},
    }[kind]
    restore.setdefault("solver", {"name": "dpir", "steps": 1})
    made = []
    for knots_per_chunk in (1, 8):
        settings = job(source, tmp_path / f"{knots_per_chunk}", restore, knots_per_chunk=knots_per_chunk)
        (row,) = run_directly(settings, monkeypatch).values()
        made.append(frames_of(row.output_uri))
    assert np.array_equal(*made)
    assert not np.array_equal(made[0], film)
    if kind == "mask video":
        hidden = holes > 0
        left = abs(made[0][hidden].astype(int) - truth[hidden]).mean()
        assert left < 0.5 * abs(255 - truth[hidden].astype(int)).mean()


def test_an_estimate_before_a_mask_video_leaves_the_mask_with_its_own_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film, holes = noisy(pan(96, 128, 6, 3), 12.0, 1), moving_holes(6, 96, 128)
    source = write_film(tmp_path / "film.mkv", np.where(holes > 0, 255, film).astype(np.uint8))
    mask = {"kind": "inpainting", "mask": write_film(tmp_path / "m.mkv", holes), "noise": 0.01}
    fill = {"degradation": mask, "solver": {"name": "dpir", "steps": 1}}
    settings = job(source, tmp_path / "out", {"degradation": "auto"}, fill)
    (row,) = run_directly(settings, monkeypatch).values()
    assert [stage["kind"] for stage in row.metrics["estimate"]["degradations"]] == ["denoise"]
    hidden = holes > 0
    assert frames_of(row.output_uri)[hidden].mean() < 220


def test_a_video_with_nothing_to_undo_keeps_its_planes_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_film(tmp_path / "film.mkv", pan(96, 128, 6, 3))
    settings = job(source, tmp_path / "out", {"degradation": "auto"}, sharing="knots")
    (row,) = run_directly(settings, monkeypatch).values()
    assert index_of(row.output_uri).frame_hashes == index_of(source).frame_hashes
    assert any("nothing is restored" in warning for warning in row.warnings)
    (again,) = run_directly(settings, monkeypatch).values()
    assert again == row
