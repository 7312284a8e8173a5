"""Running a job again with which nothing is left to do: no cluster, no model, a record all the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.bench.planning_catalog import finish_catalog, job_over, write_probed_catalog
from jobs.cli import app
from pipeline import graph
from pipeline.graph import RunSummary, run_job
from pipeline.lease import LeaseHeldError, hold_lease
from pipeline.run_history import read_runs
from pipeline.settings import JobSettings
from pipeline.source_cache import SourceCache
from pipeline.store import Store

VIDEOS, FRAMES = 3, 40


class ClusterStartedError(Exception):
    """A cluster was asked for."""


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_: Any) -> Any:
        raise ClusterStartedError

    monkeypatch.setattr(graph, "start_ray", refuse)
    return


def finished_job(folder: Path, device: str = "cpu") -> JobSettings:
    settings = job_over(folder / "in", folder / "out").to_settings()
    write_probed_catalog(folder / "in", VIDEOS, FRAMES, settings)
    finish_catalog(settings, SourceCache(str(folder / "cache"), settings.storage), device)
    return settings


def run(settings: JobSettings) -> RunSummary:
    return run_job(settings, on_event=lambda event: None, job_yaml="name: again\n")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_finished_job_ends_without_a_cluster_wherever_it_was_computed(tmp_path: Path, device: str) -> None:
    summary = run(finished_job(tmp_path, device))
    assert (summary.videos, summary.done, summary.already_done) == (VIDEOS, VIDEOS, VIDEOS)
    assert (summary.chunks, summary.chunks_done_before, summary.quarantined) == (VIDEOS, VIDEOS, 0)


def test_the_run_that_finds_nothing_to_do_leaves_its_record_and_no_lease(tmp_path: Path) -> None:
    settings = finished_job(tmp_path)
    summary = run(settings)
    folder = tmp_path / "out" / "runs" / summary.run_id
    assert json.loads((folder / "metrics.json").read_text())["done"] == VIDEOS
    assert len(json.loads((folder / "plan.json").read_text())["videos"]) == VIDEOS
    assert (folder / "job.yaml").read_text() == "name: again\n"
    assert (tmp_path / "out" / "manifests" / "videos.parquet").exists()
    again = run(settings)
    assert again.run_id != summary.run_id
    rows = read_runs(Store(settings.output))
    assert [row.run_id for row in rows] == [summary.run_id, again.run_id]
    assert {(row.name, row.status, row.published, row.already_done, row.left) for row in rows} == {
        (settings.name, "done", 0, VIDEOS, 0)
    }
    told = CliRunner().invoke(app, ["status", settings.output, "--runs"])
    assert told.exit_code == 0
    lines = told.stdout.splitlines()
    assert lines[0].split()[:4] == ["begun", "took", "ended", "published"]
    assert [line.split()[-1] for line in lines[1:]] == [row.run_id for row in rows]
    told = CliRunner().invoke(app, ["status", settings.output, "--runs", "--json"])
    assert [row["exit_code"] for row in json.loads(told.stdout)["runs"]] == [0, 0]


def test_an_output_without_runs_says_so(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["status", str(tmp_path), "--runs"])
    assert told.exit_code == 2
    assert "no run has ended here" in told.stderr


def test_another_run_at_work_there_is_not_disturbed(tmp_path: Path) -> None:
    settings = finished_job(tmp_path)
    with hold_lease(Store(settings.output), "other"), pytest.raises(LeaseHeldError):
        run(settings)


@pytest.mark.parametrize("harm", ["source", "result", "row"])
def test_anything_left_to_do_takes_a_cluster(tmp_path: Path, harm: str) -> None:
    settings = finished_job(tmp_path)
    found = {
        "source": tmp_path / "in",
        "result": tmp_path / "out" / "videos",
        "row": tmp_path / "out" / "manifests" / "videos",
    }[harm]
    hit = sorted(path for path in found.rglob("*") if path.is_file())[0]
    if harm == "row":
        hit.unlink()
    else:
        hit.write_bytes(hit.read_bytes() + b"more")
    with pytest.raises(ClusterStartedError):
        run(settings)
