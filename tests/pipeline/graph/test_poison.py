"""A unit that kills its process on every attempt: its video is given up, its neighbours are not."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from pipeline import graph
from pipeline.settings import ClusterSettings, ConsistencySettings
from pipeline.steps.enhance import EnhanceUnits
from pipeline.work import UnitTask
from tests.pipeline.graph.jobs import run, stylize_job
from tests.pipeline.video.media import Clip, make_clip

pytestmark = pytest.mark.usefixtures("ray_here")


class PoisonedByKnots(EnhanceUnits):
    """Does not survive the knots of ``bad.mp4``."""

    def _enhance(self, row: dict[str, Any]) -> dict[str, Any]:
        task = UnitTask.from_json(row["task"])
        if task.level == "knots" and task.video.uri.endswith("bad.mp4"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._enhance(row)


@pytest.fixture
def travelling() -> Iterator[None]:
    """Workers do not have the tests: their classes travel by value."""
    module = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(module)
    yield
    ray.cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.slow
@pytest.mark.usefixtures("travelling")
def test_knots_that_kill_their_process_quarantine_their_video_after_the_last_attempt_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "EnhanceUnits", PoisonedByKnots)
    folder = tmp_path / "in"
    folder.mkdir()
    for name, frames in (("bad", 14), ("good", 12)):
        make_clip(folder / f"{name}.mp4", Clip(pts=range(0, frames * 512, 512), width=32, height=24))
    job = stylize_job(str(folder / "*.mp4"), tmp_path / "out", tmp_path / "style.png")
    job.enhance[0]["stylize"]["method"]["steps"] = 2
    summary = run(
        replace(
            job,
            consistency=ConsistencySettings(knot_every=4, anchors=1),
            cluster=ClusterSettings(actors=(1, 1), address="local", max_attempts=2),
        )
    )
    found = {Path(row.video_uri).name: (row.status, row.code) for row in summary.rows}
    assert found == {"bad.mp4": ("quarantined", "crashed"), "good.mp4": ("done", "")}
    (error,) = [row.error for row in summary.rows if row.status == "quarantined"]
    assert "did not survive 2 attempts" in error
