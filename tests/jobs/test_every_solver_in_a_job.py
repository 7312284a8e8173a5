"""`reelweave run` restores a damaged clip from end to end with each solver of the registry.

A new solver is met here as soon as it is registered: its settings are read off its section of the job file,
and its model is chosen by the kinds it is for.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.demo.degrade import psnr, read_clip
from jobs.enhance_spec import Solver
from jobs.run import command
from operators.solvers.registry import METHODS
from pipeline.cluster import start_ray
from pipeline.settings import ClusterSettings
from tests.jobs.restored_clips import PTS, damaged, truth, write_clip
from tests.support.shared import shared_dir
from tests.support.tiny_models import save_tiny_bridge, save_tiny_few_step, save_tiny_flow, save_tiny_wan

SHARPEN = {"kind": "super_resolution", "scale": 2, "noise": 0.1}
STEADY = {"kind": "deblur", "kernel": "motion", "length": 7.0, "angle": 30.0, "noise": 0.05}
#: A few steps are walked of few.
FEW = {"steps": 10, "strength": 0.3}
FEWER = {"stsl": {"averages": 2}, "dpir": {"steps": 2}, "latino": {"steps": 4}, "cddb": {"steps": 4}}
CHECKPOINTS = {"cddb": "bridge", "lvtino": "wan"}
SECTIONS = {
    name: section
    for section in typing.get_args(typing.get_args(Solver)[0])
    for name in typing.get_args(section.model_fields["name"].annotation)
}


@pytest.fixture(scope="module", autouse=True)
def _one_ray() -> Iterator[None]:
    with start_ray(ClusterSettings(actors=(1, 1), address="local")):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All jobs share an output, so that a model is proved to load once."""
    root = tmp_path_factory.mktemp("solvers")
    save_tiny_few_step(root / "consistency")
    save_tiny_flow(root / "flow")
    (root / "bridge").mkdir()
    save_tiny_bridge(root / "bridge")
    (root / "wan").mkdir()
    save_tiny_wan(root / "wan")
    return root


def kind_of(name: str) -> str:
    """The embedded model wherever it is of the right kind."""
    kinds = METHODS[name].kinds
    return "diffusion" if "diffusion" in kinds else kinds[0]


def settings_of(name: str, folder: Path) -> dict[str, Any]:
    asked = {**FEW, "checkpoint": str(folder / CHECKPOINTS.get(name, ""))}
    fields = SECTIONS[name].model_fields
    return {"name": name, **{f: v for f, v in asked.items() if f in fields}, **FEWER.get(name, {})}


def shown(pictures: np.ndarray, side: int) -> np.ndarray:
    """Every pixel repeated until the picture has ``side`` lines."""
    times = side // pictures.shape[1]
    return pictures.repeat(times, axis=1).repeat(times, axis=2)


def job_file(path: Path, **changes: Any) -> Path:
    """A job that shares nothing and encodes without loss."""
    job = {
        "name": path.stem,
        "consistency": {"sharing": "none"},
        "encode": {"codec": "ffv1"},
        "cluster": {"address": "local", "actors": [1, 1]},
        **changes,
    }
    path.write_text(json.dumps(job))
    return path


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", METHODS)
def test_a_damaged_clip_comes_back_restored_with_its_frames_and_times(name: str, folder: Path) -> None:
    degradation = STEADY if "kernel" in METHODS[name].needs else SHARPEN
    x = truth()
    seen = damaged(x, degradation)
    write_clip(folder / "in" / f"{name}.mkv", seen)
    kind = kind_of(name)
    path = job_file(
        folder / f"{name}.yaml",
        source=str(folder / "in" / f"{name}.mkv"),
        output=str(folder / "out"),
        model="embedded" if kind == "diffusion" else str(folder / kind),
        enhance=[{"restore": {"degradation": degradation, "solver": settings_of(name, folder)}}],
    )

    assert command(path, [], None, False, None) == 0

    index, restored = read_clip(folder / "out" / "videos" / f"{name}.mkv")
    assert [pts * index.time_base for pts in index.pts] == [Fraction(pts, 25) for pts in PTS]
    side = x.shape[2]
    assert restored.shape == (len(PTS), side, side, 3)
    before = shown(seen, side)
    assert abs(restored.astype(float) - before).mean() > 1.0
    if kind == "diffusion" and name != "cddb":
        undamaged = np.rint((x.permute(0, 2, 3, 1).numpy() + 1.0) * 127.5).astype(np.uint8)
        assert psnr(restored, undamaged) > psnr(before, undamaged) + 0.5


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("name", "degradation"),
    [
        ("dpir", {"kind": "jpeg", "quality": 60}),
        ("ldps", {"kind": "deblur", "kernel": "gaussian", "sigma": 0.8, "noise": 0.02}),
        ("video_latent", {"kind": "denoise", "noise": 0.03}),
    ],
)
def test_a_real_clip_comes_back_restored_with_its_frames_and_times(
    name: str, degradation: dict[str, Any], folder: Path
) -> None:
    """Ten frames of 128x128 pixels in HEVC with leading pictures, read by knots and anchors."""
    source = shared_dir() / "media" / "clips" / "h265_leading_pics.mp4"
    path = job_file(
        folder / f"real-{name}.yaml",
        source=str(source),
        output=str(folder / f"real-{name}"),
        enhance=[{"restore": {"degradation": degradation, "solver": settings_of(name, folder)}}],
        consistency={"sharing": "knots", "knot_every": 8, "anchors": 2},
        encode={"codec": "libx264", "preset": "veryfast"},
    )

    assert command(path, [], None, False, None) == 0

    before, after = read_clip(source), read_clip(folder / f"real-{name}" / "videos" / source.name)
    assert [p * after[0].time_base for p in after[0].pts] == [p * before[0].time_base for p in before[0].pts]
    assert after[1].shape == before[1].shape
    assert 0.3 < abs(after[1].astype(float) - before[1]).mean() < 30.0
