"""`bench memory`: how the peaks of a whole job grow with the length of its video.

Each length runs in a fresh process, `python -m jobs.bench.memory JOB.yaml`, which is the job's driver and
looks at itself, at the workers and at the object store a few times a second. Peaks of processes are the
kernel's own (VmHWM), so none is missed between two looks; that of the object store may be by a moment.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.bench.processes import workers_below
from jobs.bench.result import BenchResult, Target
from jobs.bench.video_clips import Moving, write_moving
from jobs.bench.video_memory import peak_kib
from jobs.console import say
from jobs.spec import load_spec, parse_spec
from pipeline.errors import RunError

TIMES, _QUICK_TIMES = (1, 10, 100), (1, 4)
#: Frames of the shortest clip: several chunks, so that a longer clip has more of them, not larger ones.
FRAMES = 96
_WIDTH, _HEIGHT = 64, 48
ALLOWED_GROWTH = 1.1
_LOOK_SECONDS = 0.3
_MIB = 1024.0
_LEAST_MIB = 0.01
#: Parts of the titles that Ray gives the processes of workers.
_ACTOR, _WORKER = "EnhanceUnits", "ray::"


def run(quick: bool) -> BenchResult:
    """Lengths of 1, 10 and 100 times 96 frames; ``quick`` of 1 and 4 times."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="reelweave-memory-") as name:
        for times in _QUICK_TIMES if quick else TIMES:
            say(f"{FRAMES * times} frames")
            rows.append({"frames": FRAMES * times, **_measured(Path(name), times)})
    return BenchResult("memory", tuple(rows), tuple(_targets(rows)))


def _targets(rows: Sequence[dict[str, Any]]) -> list[Target]:
    short, long = rows[0], rows[-1]
    return [
        Target(
            f"peak of {what} at {short['frames']} frames over {long['frames']}",
            round(max(short[f"{what}_mib"], _LEAST_MIB) / max(long[f"{what}_mib"], _LEAST_MIB), 3),
            round(1 / ALLOWED_GROWTH, 3),
        )
        for what in ("driver", "actor", "worker", "store")
    ]


def _measured(folder: Path, times: int) -> dict[str, Any]:
    clip = write_moving(folder / f"{times}.mp4", Moving(_WIDTH, _HEIGHT, FRAMES * times))
    denoise = {"degradation": {"kind": "denoise", "noise": 0.05}, "solver": {"name": "dpir", "steps": 1}}
    spec = parse_spec(
        {
            "name": "memory",
            "source": clip,
            "output": str(folder / f"out-{times}"),
            "enhance": [{"restore": denoise}],
            "consistency": {"knots_per_chunk": 1},
            "encode": {"preset": "ultrafast"},
            "cluster": {"address": "local", "gpus_per_actor": 0, "actors": [1, 1]},
        }
    )
    job = folder / f"{times}.yaml"
    job.write_text(spec.to_yaml())
    ran = subprocess.run(
        [sys.executable, "-m", "jobs.bench.memory", str(job)], capture_output=True, text=True, check=False
    )
    if ran.returncode != 0:
        raise RunError(f"bench memory: the job failed: {ran.stderr[-500:]}")
    facts: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return facts


@dataclass
class _Peaks:
    """In KiB but for ``store``, which is in bytes."""

    processes: dict[str, dict[int, int]] = field(default_factory=lambda: {"actor": {}, "worker": {}})
    store: float = 0.0

    def look(self, driver: int) -> None:
        import ray

        actors = set(workers_below(driver, _ACTOR))
        for pid in workers_below(driver, _WORKER):
            with contextlib.suppress(OSError, StopIteration):
                kind = "actor" if pid in actors else "worker"
                self.processes[kind][pid] = peak_kib(pid)
        if ray.is_initialized():
            whole, free = ray.cluster_resources(), ray.available_resources()
            used = whole.get("object_store_memory", 0.0) - free.get("object_store_memory", 0.0)
            self.store = max(self.store, used)


@contextlib.contextmanager
def _watched(peaks: _Peaks) -> Iterator[None]:
    import os

    over = threading.Event()

    def look_again() -> None:
        while not over.wait(_LOOK_SECONDS):
            # Ray goes away under the last look.
            with contextlib.suppress(Exception):
                peaks.look(os.getpid())

    looking = threading.Thread(target=look_again, daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()


def _main(job: Path) -> None:
    from pipeline.graph import run_job

    spec, peaks = load_spec(job), _Peaks()
    begun = time.monotonic()
    with _watched(peaks):
        summary = run_job(spec.to_settings(), on_event=lambda event: None, job_yaml=spec.to_yaml())
    if summary.done != summary.videos:
        raise RunError(f"{[row.error for row in summary.rows]}")
    facts = {
        "seconds": round(time.monotonic() - begun, 1),
        "driver_mib": round(peak_kib() / _MIB, 1),
        "actor_mib": round(max(peaks.processes["actor"].values(), default=0) / _MIB, 1),
        "worker_mib": round(max(peaks.processes["worker"].values(), default=0) / _MIB, 1),
        "store_mib": round(peaks.store / _MIB**2, 2),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
