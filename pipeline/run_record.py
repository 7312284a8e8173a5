"""What a run leaves of itself: how it ended, and its files below ``runs/<run>/`` of the output."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.keys import canonical_json
from pipeline.manifest import VideoRow
from pipeline.redact import redacted
from pipeline.store import Store
from pipeline.video_jobs import Job


@dataclass(frozen=True)
class RunSummary:
    """How a run ended. ``already_done`` videos and ``chunks_done_before`` were found committed."""

    run_id: str
    videos: int
    done: int
    quarantined: int
    already_done: int
    chunks: int
    chunks_done_before: int
    seconds: float
    rows: tuple[VideoRow, ...]


def summary_of(
    run_id: str, videos: int, job: Job, finished: Iterable[VideoRow], begun: float
) -> RunSummary:
    """The end of a run over so many videos: what ``job`` found done before, and rows ``finished`` by it.
    ``begun``: when it began, on the monotonic clock."""
    rows = {row.video_uri: row for row in (*job.done_before, *finished)}
    return RunSummary(
        run_id=run_id,
        videos=videos,
        done=sum(row.status == "done" for row in rows.values()),
        quarantined=sum(row.status == "quarantined" for row in rows.values()),
        already_done=len(job.done_before),
        chunks=job.chunks,
        chunks_done_before=job.chunks_done,
        seconds=round(time.monotonic() - begun, 3),
        rows=tuple(rows[uri] for uri in sorted(rows)),
    )


def write_plan(store: Store, run_id: str, job: Job, job_yaml: str) -> None:
    """``job.yaml`` and ``plan.json``, before the work begins."""
    store.put(f"runs/{run_id}/job.yaml", redacted(job_yaml).encode())
    store.put(f"runs/{run_id}/plan.json", canonical_json({"run_id": run_id, **job.record()}))


def write_metrics(store: Store, summary: RunSummary) -> None:
    """``metrics.json``, when the run has come to its end."""
    facts = {
        field.name: getattr(summary, field.name)
        for field in dataclasses.fields(summary)
        if field.name != "rows"
    }
    store.put(f"runs/{summary.run_id}/metrics.json", canonical_json(facts))
