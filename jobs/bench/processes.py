"""Runs as processes of their own, for benchmarks and tests that kill them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_LOOK_SECONDS = 0.02

Process = subprocess.Popen[str]


def start_run(job: Path, work_log: Path | None = None) -> Process:
    """`reelweave run` of a job file, in a process group of its own; stderr is kept, stdout is not.

    With ``work_log`` its workers write there what they do (`jobs.bench.work_log`).
    """
    command = ["-m", "jobs", "run", str(job)]
    if work_log is not None:
        command = ["-m", "jobs.bench.watched_run", str(work_log), "run", str(job)]
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A process in the background of a shell has interrupts ignored, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@contextlib.contextmanager
def ended_with_us(run: Process) -> Iterator[Process]:
    """Within, an error or an interrupt here ends the run too."""
    try:
        yield run
    finally:
        if run.poll() is None:
            kill_group(run)


def wait_until(holds: Callable[[], bool], run: Process, seconds: float) -> bool:
    """Return when ``holds()``, when the run has ended or the time is up; whether it holds."""
    deadline = time.monotonic() + seconds
    while not (held := holds()) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return held


def kill_group(run: Process) -> None:
    """End a run and whatever it started in its group without warning, and take its last words."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    run.communicate()


def segments(output: Path) -> int:
    """Segments below ``output`` that are committed or about to be."""
    return len(list(output.glob(".work/*/*.mkv")))


def last_metrics(output: Path) -> dict[str, Any]:
    """What the latest run that came to its end says about itself."""
    found = sorted(output.glob("runs/*/metrics.json"))
    metrics: dict[str, Any] = json.loads(found[-1].read_text())
    return metrics


def workers_below(ancestor: int, name: str) -> list[int]:
    """Process ids of Ray workers whose command has ``name`` among the descendants of a process."""
    parents, names = {}, {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            names[int(folder.name)] = (folder / "cmdline").read_bytes().decode(errors="replace")
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found = []
    for process, command in names.items():
        above: int | None = process
        while above is not None and above != ancestor:
            above = parents.get(above)
        if above == ancestor and name in command:
            found.append(process)
    return found
