"""`reelweave run` stylizes a clip from end to end with each method, and says in the manifest how.

A new method is met here as soon as it has a section in the job file.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from jobs.demo.degrade import read_clip
from jobs.run import command
from jobs.style_spec import Method
from operators.pictures import to_pictures
from pipeline.cluster import start_ray
from pipeline.settings import ClusterSettings
from pipeline.style_fit import OF_PROMPTS
from tests.jobs.restored_clips import PTS, truth, write_clip
from tests.jobs.test_every_solver_in_a_job import job_file
from tests.support.tiny_models import save_tiny_sd

METHODS = [
    typing.get_args(section.model_fields["name"].annotation)[0]
    for section in typing.get_args(typing.get_args(Method)[0])
]
SEEN = to_pictures(truth(), np.dtype(np.uint8))


@pytest.fixture(scope="module", autouse=True)
def _one_ray() -> Iterator[None]:
    with start_ray(ClusterSettings(actors=(1, 1), address="local")):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All jobs share an output, so that a model is proved to load once."""
    root = tmp_path_factory.mktemp("styled")
    save_tiny_sd(root / "sd")
    dark, stripes = np.full((64, 64, 3), (90, 40, 10), np.uint8), np.zeros((64, 96, 3), np.uint8)
    stripes[::8] = (30, 90, 160)
    cv2.imwrite(str(root / "dark.png"), dark + np.arange(64, dtype=np.uint8)[:, None, None])
    cv2.imwrite(str(root / "stripes.png"), stripes)
    return root


def stylization(name: str, folder: Path) -> dict[str, Any]:
    what: dict[str, Any] = {"method": {"name": name, "steps": 3}, "depth": 0.7}
    if name in OF_PROMPTS:
        return {**what, "prompt": "ink", "guidance": 2.0, "blend": [{"prompt": "in a", "weight": 0.5}]}
    pictures = [{"image": str(folder / "dark.png"), "weight": 2}, {"image": str(folder / "stripes.png")}]
    return {**what, "reference": pictures}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", METHODS)
def test_a_clip_comes_back_stylized_with_its_frames_and_times(name: str, folder: Path) -> None:
    write_clip(folder / "in" / f"{name}.mkv", SEEN)
    path = job_file(
        folder / f"{name}.yaml",
        source=str(folder / "in" / f"{name}.mkv"),
        output=str(folder / "out"),
        model=str(folder / "sd") if name in OF_PROMPTS else "embedded",
        enhance=[{"stylize": stylization(name, folder)}],
        consistency={"sharing": "knots", "knot_every": 3, "anchors": 2},
    )

    assert command(path, [], None, False, None) == 0

    index, styled = read_clip(folder / "out" / "videos" / f"{name}.mkv")
    assert [pts * index.time_base for pts in index.pts] == [Fraction(pts, 25) for pts in PTS]
    assert styled.shape == SEEN.shape
    moved = abs(styled.astype(float) - SEEN).mean((1, 2, 3))
    assert (moved > 1.0).all()
    if name in ("style_aligned", "adain", "soc"):
        # These move colours: the references are dark.
        assert styled.mean() < SEEN.mean() - 20
