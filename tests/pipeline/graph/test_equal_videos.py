"""The same bytes under several names: computed once, and each name has its own rows and its own fate."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from pipeline import graph
from pipeline.errors import SourceError
from pipeline.events import Event
from pipeline.graph import run_job
from pipeline.journal import FAILURES, read_rows
from pipeline.manifest import read_chunk_rows
from pipeline.settings import ConsistencySettings, JobSettings
from pipeline.steps.context import TaskContext
from pipeline.steps.guarded import fail
from pipeline.steps.rows import Row
from pipeline.steps.units import transcode_unit
from pipeline.store import Store
from pipeline.work import UnitTask
from tests.pipeline.graph.jobs import identity_job, run
from tests.pipeline.video.media import Clip, make_clip

pytestmark = pytest.mark.usefixtures("ray_here")

CHUNKS = 4


@pytest.fixture
def twins(sources: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b"):
        shutil.copy(sources / "a.mp4", folder / f"{name}.mp4")
    return folder


def job_of(twins: Path, tmp_path: Path, pattern: str = "*.mp4") -> JobSettings:
    job = identity_job(str(twins / pattern), tmp_path / "out")
    return replace(job, consistency=ConsistencySettings(knot_every=4, knots_per_chunk=1))


def rows_by_name(job: JobSettings) -> Counter[str]:
    return Counter(Path(row.video_uri).name for row in read_chunk_rows(Store(job.output)))


def test_a_twin_that_comes_later_or_leaves_has_rows_of_its_own_and_nothing_is_computed_for_it(
    twins: Path, tmp_path: Path
) -> None:
    first = run(job_of(twins, tmp_path, "a.mp4"))
    assert (first.chunks, rows_by_name(job_of(twins, tmp_path))) == (CHUNKS, {"a.mp4": CHUNKS})
    events: list[Event] = []
    both = run(job_of(twins, tmp_path), events)
    assert (both.done, both.already_done, both.chunks_done_before) == (2, 1, 2 * CHUNKS)
    assert not [event for event in events if (event.kind, event.message) == ("chunk", "frames")]
    assert rows_by_name(job_of(twins, tmp_path)) == {"a.mp4": CHUNKS, "b.mp4": CHUNKS}
    (twins / "a.mp4").unlink()
    alone = run(job_of(twins, tmp_path))
    assert (alone.videos, alone.done, alone.already_done) == (1, 1, 1)
    assert rows_by_name(job_of(twins, tmp_path)) == {"a.mp4": CHUNKS, "b.mp4": CHUNKS}


def test_a_twin_whose_file_changes_under_way_is_quarantined_alone(twins: Path, tmp_path: Path) -> None:
    other = make_clip(tmp_path / "other.mp4", Clip(pts=range(0, 8 * 512, 512)))
    job = job_of(twins, tmp_path)

    def replace_a(event: Event) -> None:
        if (event.kind, event.message) == ("phase", "frames"):
            os.replace(other, twins / "a.mp4")

    summary = run_job(job, on_event=replace_a)
    answers = {Path(row.video_uri).name: (row.status, row.code) for row in summary.rows}
    assert answers == {"a.mp4": ("quarantined", "source_changed"), "b.mp4": ("done", "")}
    assert {Path(row.video_uri).name for row in read_rows(Store(job.output), FAILURES)} == {"a.mp4"}
    assert rows_by_name(job) == {"b.mp4": CHUNKS}


def failing_chunk(row: Row, context: TaskContext) -> Row:
    """A step that refuses the second chunk of whichever file it reads, for the fault of what is in it."""
    if UnitTask.from_json(row["task"]).number == 1:
        error = SourceError("frame 5 cannot be encoded", code="encode_failed")
        return fail(row, error.code, str(error), False, stage="encode", attempts=1)
    return transcode_unit(row, context)


@pytest.fixture
def travelling() -> Iterator[None]:
    """Workers do not have the tests: their functions travel by value."""
    module = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(module)
    yield
    ray.cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.usefixtures("travelling")
def test_a_chunk_that_fails_quarantines_both_twins_and_is_a_failure_of_each(
    twins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(twins, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(graph, "transcode_unit", failing_chunk)
        assert run(job).quarantined == 2
    failures = read_rows(Store(job.output), FAILURES)
    found = [(Path(row.video_uri).name, row.chunk, row.code, row.outcome) for row in failures]
    assert found == [(name, 1, "encode_failed", "quarantined") for name in ("a.mp4", "b.mp4")]
    again = run_job(job, on_event=lambda event: None, only_quarantined=True)
    assert (again.done, again.quarantined) == (2, 0)
