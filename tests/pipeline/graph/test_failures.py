"""Every failure is a row; how many a run puts up with; what is published of a video with a failed chunk."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray

from pipeline import graph
from pipeline.errors import RunError, SourceError, StoreError
from pipeline.graph import run_job
from pipeline.journal import FAILURES, read_rows
from pipeline.manifest import read_video_rows
from pipeline.settings import ClusterSettings, ConsistencySettings
from pipeline.steps.context import TaskContext
from pipeline.steps.guarded import fail
from pipeline.steps.rows import Row
from pipeline.steps.units import transcode_unit
from pipeline.store import Store
from pipeline.work import UnitTask
from tests.pipeline.graph.jobs import identity_job, run

pytestmark = pytest.mark.usefixtures("ray_here")


@pytest.fixture
def travelling() -> Iterator[None]:
    """Workers do not have the tests: their functions travel by value."""
    module = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(module)
    yield
    ray.cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def catalog(sources: Path, tmp_path: Path) -> Path:
    """One good video and three bad ones."""
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(sources / "a.mp4", folder / "good.mp4")
    for name in ("bad1", "bad2", "bad3"):
        (folder / f"{name}.mp4").write_bytes(b"not yet uploaded")
    return folder


def test_more_failures_than_allowed_end_the_run_and_as_many_as_allowed_do_not(
    catalog: Path, tmp_path: Path
) -> None:
    job = identity_job(str(catalog / "*.mp4"), tmp_path / "out")
    with pytest.raises(RunError, match=r"3 videos failed in this run, more than --max-failures 2"):
        run_job(job, on_event=lambda event: None, max_failures=2)
    store = Store(job.output)
    assert [row.code for row in read_video_rows(store)] == ["not_a_video"] * 3, "all that is known is written"
    assert store.list("videos") == []
    again = run_job(job, on_event=lambda event: None, max_failures=3)
    assert (again.done, again.quarantined) == (1, 3)


def test_every_failure_is_a_row_of_the_failures_manifest(catalog: Path, tmp_path: Path) -> None:
    job = identity_job(str(catalog / "*.mp4"), tmp_path / "out")
    summary = run(job)
    rows = pq.read_table(tmp_path / "out" / FAILURES.path).to_pylist()
    assert [Path(row["video_uri"]).name for row in rows] == ["bad1.mp4", "bad2.mp4", "bad3.mp4"]
    for row in rows:
        assert (row["run_id"], row["outcome"]) == (summary.run_id, "quarantined")
        assert (row["level"], row["stage"], row["code"], row["attempts"]) == (
            "video",
            "index",
            "not_a_video",
            1,
        )
        assert row["node"]
        assert "not a video" in row["error"]


def failing_second_chunk(row: Row, context: TaskContext) -> Row:
    """A step that refuses one chunk of ``bad.mp4``, for that video's fault."""
    task = UnitTask.from_json(row["task"])
    if task.number == 1 and task.video.uri.endswith("bad.mp4"):
        error = SourceError("frame 8 cannot be encoded", code="encode_failed")
        return fail(row, error.code, str(error), False, stage="encode", attempts=1)
    return transcode_unit(row, context)


def failing_store(row: Row, context: TaskContext) -> Row:
    """A step that finds storage away, each time."""
    return fail(row, "store", "s3://b/x: cannot write it", True, stage="encode", attempts=1)


@pytest.mark.usefixtures("travelling")
def test_a_video_with_one_failed_chunk_is_not_published_and_a_replay_computes_that_chunk_alone(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(sources / "a.mp4", folder / "bad.mp4")
    job = replace(
        identity_job(str(folder / "*.mp4"), tmp_path / "out"),
        consistency=ConsistencySettings(knot_every=4, knots_per_chunk=1),
    )
    with monkeypatch.context() as patched:
        patched.setattr(graph, "transcode_unit", failing_second_chunk)
        refused = run(job)
    assert (refused.done, refused.quarantined) == (0, 1)
    store = Store(job.output)
    assert store.list("videos") == []
    (failure,) = read_rows(store, FAILURES)
    assert (failure.level, failure.chunk, failure.stage, failure.code) == (
        "chunk",
        1,
        "encode",
        "encode_failed",
    )
    replayed = run_job(job, on_event=lambda event: None, only_quarantined=True)
    assert (replayed.done, replayed.chunks_done_before) == (1, replayed.chunks - 1)
    assert read_rows(store, FAILURES) == [failure], "the history stays"


@pytest.mark.usefixtures("travelling")
def test_storage_that_stays_away_stops_the_run_and_quarantines_nobody(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = ClusterSettings(actors=(1, 1), address="local", max_attempts=2)
    job = identity_job(str(sources / "a.mp4"), tmp_path / "out", cluster=cluster)
    with monkeypatch.context() as patched:
        patched.setattr(graph, "transcode_unit", failing_store)
        with pytest.raises(StoreError, match="cannot write it"):
            run(job)
    store = Store(job.output)
    assert read_video_rows(store) == []
    outcomes = [row.outcome for row in read_rows(store, FAILURES)]
    assert "retried" in outcomes
    assert "stopped" in outcomes
    assert "quarantined" not in outcomes
    assert run(job).done == 1


def test_a_worker_that_cannot_go_on_is_told_in_a_sentence(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def iter_rows(self) -> Iterator[Any]:
            raise ray.exceptions.OutOfDiskError("Local disk is full\nmore")

    monkeypatch.setattr(graph._Run, "_index_dataset", lambda self, rows: Broken())
    job = identity_job(str(sources / "a.mp4"), tmp_path / "out")
    with pytest.raises(RunError, match=r"OutOfDiskError: Local disk is full.*run again to resume"):
        run(job)
