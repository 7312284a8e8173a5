"""`ray job submit` to a real cluster: once, again under the same id, again under another."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.metrics import METRICS, Metric
from tests.infra.cluster import LocalCluster, local_cluster
from tests.infra.jobs import write_job

pytestmark = [
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ("aiohttp_cors", "opentelemetry", "smart_open"))),
        reason="clusters that take jobs need ray[default], which constraints.txt pins: make test installs it",
    ),
    pytest.mark.slow,
    pytest.mark.timeout(1200),
]


@dataclass(frozen=True)
class Submissions:
    """What came of three submissions of one job; ``scraped`` is what the first one showed Prometheus."""

    first: subprocess.CompletedProcess[str]
    same_id: subprocess.CompletedProcess[str]
    other_id: subprocess.CompletedProcess[str]
    runs: tuple[int, int, int]
    metrics: dict[str, object]
    scraped: str


@pytest.fixture(scope="module")
def submissions(tmp_path_factory: pytest.TempPathFactory) -> Submissions:
    folder = tmp_path_factory.mktemp("submit")
    job = write_job(folder)
    run = (sys.executable, "-m", "jobs", "run", str(job), "--address", "auto")
    with local_cluster() as cluster:
        with _scraping(cluster) as seen:
            first = cluster.submit("night-1", *run)
        after_first = len(_runs(folder))
        same_id = cluster.submit("night-1", *run)
        after_same = len(_runs(folder))
        other_id = cluster.submit("night-2", *run)
    runs = _runs(folder)
    metrics = json.loads((runs[-1] / "metrics.json").read_text()) if runs else {}
    return Submissions(
        first, same_id, other_id, (after_first, after_same, len(runs)), metrics, "\n".join(seen)
    )


def test_a_submitted_job_publishes_its_videos(submissions: Submissions) -> None:
    assert submissions.first.returncode == 0, submissions.first.stdout + submissions.first.stderr
    assert "1 of 1 videos done (0 before this run)" in submissions.first.stdout


def test_a_second_submission_under_the_same_id_is_refused_and_runs_nothing(submissions: Submissions) -> None:
    assert submissions.same_id.returncode == 1
    assert "night-1 already exists" in submissions.same_id.stdout + submissions.same_id.stderr
    assert submissions.runs[:2] == (1, 1)


def test_a_submission_under_another_id_finds_nothing_left_to_do(submissions: Submissions) -> None:
    assert submissions.other_id.returncode == 0, submissions.other_id.stdout + submissions.other_id.stderr
    assert submissions.runs[2] == 2
    assert submissions.metrics["already_done"] == submissions.metrics["videos"] == 1
    assert submissions.metrics["chunks"] == submissions.metrics["chunks_done_before"]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_of_ours_is_scraped_under_its_name_and_labels_while_a_job_runs(
    metric: Metric, submissions: Submissions
) -> None:
    found = re.search(rf"^{metric.exported}\{{(.*)\}} ", submissions.scraped, re.MULTILINE)
    assert found
    assert {*metric.tags, "SessionName"} <= set(re.findall(r'(\w+)="', found[1]))


def _runs(folder: Path) -> list[Path]:
    return sorted((folder / "out").glob("runs/*"))


@contextlib.contextmanager
def _scraping(cluster: LocalCluster) -> Iterator[list[str]]:
    """Scrape once a second: gauges go when the process that set them has ended."""
    pages: list[str] = []
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(1.0):
            with contextlib.suppress(OSError):
                pages.append(cluster.scrape())

    watching = threading.Thread(target=scrape, daemon=True)
    watching.start()
    try:
        yield pages
    finally:
        ended.set()
        watching.join()
