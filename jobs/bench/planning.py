"""`bench planning`: how many videos a second are planned, and how long a finished job takes to say so.

plan       what `reelweave plan` does where every source was indexed before and nothing is done yet; the
           first time reads and hashes the sources, afterwards their digests are remembered
settled    what a run asks first of a finished job: rows, versions of sources, published objects
again      `reelweave run` of a finished job as a process of its own, interpreter and Ray included
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from jobs.bench.planning_catalog import entries_of, finish_catalog, job_over, write_probed_catalog
from jobs.bench.result import BenchResult, Target
from pipeline.errors import RunError
from pipeline.settings import JobSettings

VIDEOS = (1_000, 10_000, 100_000)
_QUICK_VIDEOS = (100,)
#: A clip of one scene, two chunks of it at default settings.
FRAMES = 240
#: Videos a second from cached probes, and seconds in which a finished job of `AGAIN_VIDEOS` ends.
PLANNED_PER_SECOND, AGAIN_SECONDS = 2_000, 10.0
AGAIN_VIDEOS = 1_000
_REPEATS = 3


def run(quick: bool, videos: int | None = None) -> BenchResult:
    """Catalogs of 1e3, 1e4 and 1e5 videos, or of ``videos`` alone; ``quick`` is one of 100."""
    sizes = (videos,) if videos else _QUICK_VIDEOS if quick else VIDEOS
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="reelweave-") as folder:
            rows.append(_measured(Path(folder), size))
    slowest = min(row["plan_per_s"] for row in rows)
    targets = [Target("videos planned per second from cached probes", slowest, PLANNED_PER_SECOND)]
    again = [row for row in rows if row["videos"] == AGAIN_VIDEOS]
    targets += [
        Target(
            f"{AGAIN_SECONDS:.0f} s over the seconds of a finished job of {AGAIN_VIDEOS} videos",
            round(AGAIN_SECONDS / row["again_s"], 2),
            1.0,
        )
        for row in again
    ]
    return BenchResult("planning", tuple(rows), tuple(targets))


def _measured(folder: Path, videos: int) -> dict[str, Any]:
    from pipeline.job_plan import plan_job
    from pipeline.source_cache import SourceCache

    spec = job_over(folder / "in", folder / "out")
    settings = spec.to_settings()
    write_probed_catalog(folder / "in", videos, FRAMES, settings)
    begun = time.perf_counter()
    plan = plan_job(settings)
    first = time.perf_counter() - begun
    if plan.rejected or plan.chunks_done:
        raise RunError(f"the catalog of {videos} videos was not planned as written: {plan.rejected[:1]}")
    planning = _seconds(lambda: plan_job(settings), 1 if videos > AGAIN_VIDEOS else _REPEATS)
    sources = SourceCache(str(folder / "cache"), settings.storage)
    finish_catalog(settings, sources)
    settling = _seconds(lambda: _settle(settings, sources, videos), _REPEATS)
    job = folder / "job.yaml"
    job.write_text(spec.to_yaml())
    return {
        "videos": videos,
        "frames": plan.frames,
        "chunks": plan.chunks,
        "first_plan_s": round(first, 2),
        "plan_s": round(planning, 2),
        "plan_per_s": round(videos / planning),
        "settled_s": round(settling, 2),
        "settled_per_s": round(videos / settling),
        "again_s": round(_seconds(lambda: _run_again(job), 1), 2),
    }


def _settle(settings: JobSettings, sources: Any, videos: int) -> None:
    from pipeline.job_keys import JobKeys
    from pipeline.model_files import weights_digest
    from pipeline.settled import settled_videos
    from pipeline.store import Store

    keys = JobKeys(settings, weights_digest(settings), "cpu")
    store = Store(settings.output, settings.storage)
    settled = settled_videos(entries_of(settings), [keys], store, sources)
    if len(settled) != videos:
        raise RunError(f"{videos - len(settled)} of {videos} finished videos were not taken for finished")


def _run_again(job: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "run", str(job)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or "(0 before this run)" in done.stderr:
        raise RunError(f"a finished job was not taken for finished: {done.stderr[-500:]}")


def _seconds(work: Callable[[], object], repeats: int) -> float:
    laps = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        laps.append(time.perf_counter() - begun)
    return median(laps)
