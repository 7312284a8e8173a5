"""`bench identity`: one job run in many ways, each in processes of its own; the decoded frames must be equal.

The bundled clip, made half as large, stylized with shared attention: by one, two and three actors, in chunks
of 8, 1 and 2 knot intervals, and once more by a run that is killed amid its chunks and started again.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.bench.processes import kill_group, last_metrics, segments, start_run, wait_until
from jobs.bench.result import BenchResult, Target
from jobs.console import say
from jobs.demo.degrade import write_degraded
from jobs.demo.demo import REFERENCE, TRUTH
from jobs.yaml_source import dump_yaml
from pipeline.errors import ChunkError

STEPS, KNOT_EVERY, ANCHORS = 3, 8, 2
_DEADLINE_SECONDS = 1800.0


@dataclass(frozen=True)
class Way:
    """How a job is run. ``killed``: without warning, when its first chunk is committed."""

    actors: int
    knots_per_chunk: int
    killed: bool = False


QUICK = (Way(1, 8), Way(2, 1))
FULL = (*QUICK, Way(3, 2), Way(1, 1, killed=True))


def run(quick: bool) -> BenchResult:
    """All ways; ``quick`` leaves out three actors and the kill."""
    with tempfile.TemporaryDirectory(prefix="reelweave-") as folder:
        source = Path(folder, "clip.mp4")
        write_degraded(TRUTH, source)
        rows = [_row(way, source, Path(folder, str(n))) for n, way in enumerate(QUICK if quick else FULL)]
    first = rows[0]["frames_md5"]
    equal = sum(row["frames_md5"] == first for row in rows)
    targets = [Target("share of runs with equal frames", equal / len(rows), 1.0)]
    resumed = [0 < row["chunks_done_before"] < row["chunks"] for row in rows if row["killed"]]
    if resumed:
        targets.append(Target("share of kills that came amid the chunks", sum(resumed) / len(resumed), 1.0))
    return BenchResult("identity", tuple(rows), tuple(targets))


def _row(way: Way, source: Path, output: Path) -> dict[str, Any]:
    fate = ", killed" if way.killed else ""
    say(f"{way.actors} actors, {way.knots_per_chunk} knot intervals a chunk{fate}")
    job = output.with_suffix(".yaml")
    job.write_text(dump_yaml(_job(way, source, output)))
    begun = time.monotonic()
    if way.killed:
        _kill_in_mid_run(job, output)
    _run_to_end(job)
    metrics = last_metrics(output)
    video = _published(output)
    return {
        "actors": way.actors,
        "knots_per_chunk": way.knots_per_chunk,
        "killed": way.killed,
        "chunks": metrics["chunks"],
        "chunks_done_before": metrics["chunks_done_before"],
        "frames": video["frames"],
        "frames_md5": video["frames_md5"],
        "seconds": round(time.monotonic() - begun, 1),
    }


def _job(way: Way, source: Path, output: Path) -> dict[str, Any]:
    method = {"name": "style_aligned", "steps": STEPS}
    return {
        "name": "identity",
        "source": str(source),
        "output": str(output),
        "enhance": [{"stylize": {"reference": str(REFERENCE), "method": method}}],
        "consistency": {
            "sharing": "knots",
            "anchors": ANCHORS,
            "knot_every": KNOT_EVERY,
            "knots_per_chunk": way.knots_per_chunk,
        },
        "cluster": {"address": "local", "gpus_per_actor": 0, "actors": [way.actors, way.actors]},
    }


def _run_to_end(job: Path) -> None:
    running = start_run(job)
    _, log = running.communicate(timeout=_DEADLINE_SECONDS)
    if running.returncode != 0:
        raise ChunkError(f"bench identity: a run ended with {running.returncode}: {log[-500:]}", code="bench")


def _kill_in_mid_run(job: Path, output: Path) -> None:
    running = start_run(job)
    wait_until(lambda: segments(output) > 0, running, _DEADLINE_SECONDS)
    kill_group(running)


def _published(output: Path) -> dict[str, Any]:
    from pyarrow import parquet

    rows: list[dict[str, Any]] = parquet.read_table(output / "manifests" / "videos.parquet").to_pylist()
    return rows[0]
