"""`bench soak`: a catalog of tiny clips is run, killed at a random time and run again, many times over.

A round runs one job into an empty output until it is done, through any number of kills; then what it left
is compared with what an undisturbed run of that job left, and the log of its workers tells what was computed
twice. Rounds of re-encoding and of one step of the embedded model take turns until all kills are spent.

Drivers get SIGKILL (alone or with their process group), SIGTERM or SIGINT; before that, in every other cycle,
a random process below the driver gets SIGKILL, and the run must go on.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.bench.outcome import Outcome, differences, read_outcome, untrue_rows
from jobs.bench.processes import Process, kill_group, start_run, wait_until, workers_below
from jobs.bench.result import BenchResult, Target
from jobs.bench.soak_catalog import JOBS, job_of, write_catalog
from jobs.bench.work_log import WorkLog, count_work
from jobs.console import QUARANTINED, say
from jobs.yaml_source import dump_yaml
from pipeline.errors import ChunkError
from pipeline.store import Store

CYCLES, VIDEOS = 50, 20
_QUICK_CYCLES, _QUICK_VIDEOS = 3, 6
_DEADLINE_SECONDS = 1800.0
#: What a run says that gets no processor for half a minute; it is begun again.
_STARVED = "Ray did not start"
#: Share of kills that wait until the first worker has begun; the others may come while Ray starts.
_AT_WORK = 0.75


def _kill_all(run: Process) -> None:
    os.killpg(run.pid, signal.SIGKILL)


#: Ways for a driver to end before its work is done.
BLOWS: dict[str, Callable[[Process], None]] = {
    "SIGKILL": lambda run: run.send_signal(signal.SIGKILL),
    "SIGKILL to all": _kill_all,
    "SIGTERM": lambda run: run.send_signal(signal.SIGTERM),
    "SIGINT": lambda run: run.send_signal(signal.SIGINT),
}


@dataclass(frozen=True)
class Calm:
    """An undisturbed run: what it left, its seconds in all and from the first step a worker began."""

    outcome: Outcome
    seconds: float
    working: float


@dataclass
class Round:
    """What happened to one output from empty to done. ``problems`` should stay empty."""

    blows: Counter[str] = field(default_factory=Counter)
    workers: int = 0
    exits: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def run(quick: bool, cycles: int | None = None, videos: int | None = None, seed: int = 0) -> BenchResult:
    """All rounds; ``quick`` is three kills on six videos."""
    cycles = cycles or (_QUICK_CYCLES if quick else CYCLES)
    videos = videos or (_QUICK_VIDEOS if quick else VIDEOS)
    draws = random.Random(seed)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="reelweave-soak-") as name:
        folder = Path(name)
        write_catalog(folder / "in", videos, seed)
        calm: dict[str, Calm] = {}
        while sum(row["kills"] for row in rows) < cycles:
            job = tuple(JOBS)[len(rows) % len(JOBS)]
            if job not in calm:
                calm[job] = _undisturbed(folder, job)
            left = cycles - sum(row["kills"] for row in rows)
            rows.append(_round(folder, len(rows), job, calm[job], left, draws))
    return BenchResult("soak", tuple(rows), _targets(rows))


def _targets(rows: Sequence[dict[str, Any]]) -> tuple[Target, ...]:
    right = sum(row["problems"] == 0 for row in rows) / len(rows)
    again = sum(row["again"] for row in rows)
    fresh = 1.0 - again / max(1, sum(row["results"] for row in rows))
    return (
        Target("share of rounds that end as undisturbed, with every row true in between", right, 1.0),
        Target("share of results that were not computed again once committed", fresh, 1.0),
    )


def _undisturbed(folder: Path, job: str) -> Calm:
    say(f"{job}: undisturbed")
    path, output, log = _job_file(folder, f"calm-{job}", job)
    while True:
        begun = time.monotonic()
        running = start_run(path, log.path)
        wait_until(lambda: log.size > 0, running, _DEADLINE_SECONDS)
        working = time.monotonic()
        said = _end_of(running)
        if running.returncode == QUARANTINED:
            ended = time.monotonic()
            return Calm(read_outcome(Store(str(output))), ended - begun, ended - working)
        if _STARVED not in said:
            raise ChunkError(
                f"bench soak: a run ended with {running.returncode}: {said[-500:]}", code="bench"
            )


def _round(
    folder: Path, number: int, job: str, calm: Calm, kills: int, draws: random.Random
) -> dict[str, Any]:
    """One output from empty to done, with at most so many kills on the way."""
    begun = time.monotonic()
    path, output, log = _job_file(folder, f"round-{number}", job)
    store, state = Store(str(output)), Round()
    done = False
    while not done:
        running = start_run(path, log.path)
        if state.blows.total() < kills:
            _disturb(running, log, calm, draws, state)
        said = _end_of(running)
        state.exits[running.returncode] += 1
        done = running.returncode == QUARANTINED
        state.problems += _complaints(running.returncode, said)
        state.problems += untrue_rows(store)
        last = " ".join(said.splitlines()[-1:])[:160]
        say(f"round {number}, {job}: {state.blows.total()} kills, exit code {running.returncode}: {last}")
    state.problems += differences(calm.outcome, read_outcome(store))
    for problem in state.problems:
        say(f"problem: {problem}")
    return {
        "job": job,
        "kills": state.blows.total(),
        "blows": ", ".join(f"{count} {name}" for name, count in sorted(state.blows.items())),
        "workers_killed": state.workers,
        "exit_codes": ", ".join(f"{count} of {code}" for code, count in sorted(state.exits.items())),
        "videos": len(calm.outcome.videos),
        "problems": len(state.problems),
        **count_work(log.read()),
        "seconds": round(time.monotonic() - begun, 1),
    }


def _disturb(running: Process, log: WorkLog, calm: Calm, draws: random.Random, state: Round) -> None:
    """Let a run live for a random time, and end it; one that is done before is left to its end."""
    blow = draws.choice(tuple(BLOWS))
    at_work, worker_dies = draws.random() < _AT_WORK, draws.random() < 0.5
    length = draws.uniform(0.0, calm.working if at_work else calm.seconds)
    when, which = draws.uniform(0.0, length), draws.random()
    if at_work:
        before = log.size
        wait_until(lambda: log.size > before, running, _DEADLINE_SECONDS)
    begun = time.monotonic()
    if worker_dies:
        wait_until(lambda: time.monotonic() - begun > when, running, _DEADLINE_SECONDS)
        workers = workers_below(running.pid, "ray::")
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(sorted(workers)[int(which * len(workers))], signal.SIGKILL)
                state.workers += 1
    wait_until(lambda: time.monotonic() - begun > length, running, _DEADLINE_SECONDS)
    if running.poll() is None:
        BLOWS[blow](running)
        state.blows[blow] += 1


def _end_of(running: Process) -> str:
    """What a run that ends by itself or was told to has said; one that does not end is a failure."""
    try:
        return running.communicate(timeout=_DEADLINE_SECONDS)[1]
    except subprocess.TimeoutExpired as error:
        kill_group(running)
        raise ChunkError("bench soak: a run that was told to end did not", code="bench") from error


def _complaints(code: int, said: str) -> list[str]:
    """A traceback, or a failure that nobody asked for."""
    found = ["a traceback: " + said[-500:]] if "Traceback" in said else []
    if code == 1 and _STARVED not in said:
        found.append("a run failed: " + said[-300:])
    return found


def _job_file(folder: Path, name: str, job: str) -> tuple[Path, Path, WorkLog]:
    output = folder / name.replace(" ", "-")
    path = output.with_suffix(".yaml")
    path.write_text(dump_yaml(job_of(job, folder / "in", output)))
    return path, output, WorkLog(output.with_suffix(".log"))
