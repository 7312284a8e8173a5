"""What a rerun does with finished work: it repeats what it cannot prove to be there, and nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.status import read_status
from pipeline import graph
from pipeline.events import Event
from pipeline.job_plan import plan_job
from pipeline.journal import FAILURES, read_rows
from pipeline.settings import JobSettings
from pipeline.store import Store
from tests.pipeline.graph.jobs import identity_job, run, stylize_job

pytestmark = pytest.mark.usefixtures("ray_here")


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def forget_publication(out: Path) -> None:
    shutil.rmtree(out / "videos")
    shutil.rmtree(out / "manifests")


def phases(events: list[Event]) -> list[str]:
    return [event.message for event in events if event.kind == "phase"]


def test_a_rerun_of_a_finished_job_starts_no_actor_and_reads_no_video(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = stylize_job(str(sources / "a.mp4"), tmp_path / "out", tmp_path / "style.png")
    job.enhance[0]["stylize"]["method"]["steps"] = 2
    first = run(job)

    def refuse(*arguments: object) -> None:
        raise AssertionError("nothing is left to be done")

    monkeypatch.setattr(graph, "prepare_model", refuse)
    monkeypatch.setattr(graph._Run, "_index_dataset", refuse)
    monkeypatch.setattr(graph._Run, "_actors", refuse)
    # Even where `reelweave clean` has taken the work files away.
    for remove in ((), (".work",)):
        for name in remove:
            shutil.rmtree(tmp_path / "out" / name)
        events: list[Event] = []
        again = run(job, events)
        assert phases(events) == []
        assert (again.done, again.already_done) == (1, 1)
        assert again.chunks == again.chunks_done_before == first.chunks
        assert again.rows == first.rows
    assert [video.status for video in read_status(Store(job.output))] == ["done"]


def test_plan_says_that_nothing_is_left_of_a_finished_job_and_writes_nothing(
    sources: Path, tmp_path: Path
) -> None:
    job = identity_job(str(sources / "a.mp4"), tmp_path / "out")
    before = plan_job(job)
    assert (before.chunks_done, before.estimate["frames_left"]) == (0, 14)
    run(job)
    listed = Store(job.output).list("")
    after = plan_job(job)
    assert (after.chunks, after.chunks_done, after.estimate["frames_left"]) == (
        before.chunks,
        before.chunks,
        0,
    )
    assert Store(job.output).list("") == listed


@pytest.mark.parametrize("change", [flip_a_bit, lambda path: path.write_bytes(b"short"), Path.unlink])
def test_a_published_video_that_was_changed_is_published_again_from_its_segments(
    sources: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    job = identity_job(str(sources / "a.mp4"), tmp_path / "out")
    first = run(job)
    video = tmp_path / "out" / "videos" / "a.mp4"
    whole = video.read_bytes()
    change(video)
    events: list[Event] = []
    again = run(job, events)
    assert again.already_done == 0
    assert again.chunks_done_before == first.chunks
    assert video.read_bytes() == whole
    assert "frames" not in phases(events)


def test_a_published_video_that_was_copied_elsewhere_is_read_once_and_counts(
    sources: Path, tmp_path: Path
) -> None:
    run(identity_job(str(sources / "a.mp4"), tmp_path / "out"))
    shutil.copytree(tmp_path / "out", tmp_path / "moved")
    again = run(identity_job(str(sources / "a.mp4"), tmp_path / "moved"))
    assert (again.done, again.already_done) == (1, 1)


def test_a_source_that_was_replaced_is_processed_again(sources: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    shutil.copy(sources / "a.mp4", source)
    job = identity_job(str(source), tmp_path / "out")
    first = run(job)
    os.utime(source)
    touched = run(job)
    assert (touched.already_done, touched.rows[0].video_key) == (1, first.rows[0].video_key)
    data = bytearray(source.read_bytes())
    source.write_bytes(bytes(data) + b"\0\0\0\x08free")
    changed = run(job)
    assert (changed.already_done, changed.done) == (0, 1)
    assert changed.rows[0].source_digest != first.rows[0].source_digest


def broken_after(job: JobSettings, pattern: str) -> list[Path]:
    """Runs ``job``, forgets that it was published, and flips a bit in one work file of ``pattern``."""
    run(job)
    out = Path(job.output)
    forget_publication(out)
    victims = sorted((out / ".work").rglob(pattern))
    assert victims, f"no {pattern}"
    flip_a_bit(victims[0])
    return victims


@pytest.mark.parametrize("pattern", ["*.mkv", "*.index"])
def test_a_committed_result_whose_bytes_changed_is_computed_again_in_the_same_run(
    sources: Path, tmp_path: Path, pattern: str
) -> None:
    calm = run(identity_job(str(sources / "a.mp4"), tmp_path / "calm")).rows[0]
    job = identity_job(str(sources / "a.mp4"), tmp_path / "out")
    broken_after(job, pattern)
    events: list[Event] = []
    again = run(job, events)
    assert (again.done, again.quarantined) == (1, 0)
    assert again.rows[0].frames_md5 == calm.frames_md5
    assert [event for event in events if "to be computed again" in event.message]
    computed = [event for event in events if event.kind == "chunk" and event.message == "frames"]
    assert len(computed) == (1 if pattern == "*.mkv" else 0), "no more than what was lost"
    if pattern == "*.mkv":
        assert [row.outcome for row in read_rows(Store(job.output), FAILURES)] == ["recomputed"]
