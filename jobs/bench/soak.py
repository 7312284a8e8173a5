"""`bench soak`: a catalog of tiny clips is run, killed at a random step and run again, many times over.

A round runs one job into an empty output until it is done, through any number of kills; then what it left
is compared with what an undisturbed run of that job left, and the log of its workers tells what was computed
twice. Rounds of re-encoding and of one step of the embedded model take turns until all kills are spent.

Drivers get SIGKILL (alone, with their process group, or the node under them), SIGTERM or SIGINT; before that,
in every other cycle, a random process below the driver gets SIGKILL, and the run must go on.

Rounds that are over are kept: a soak that was interrupted goes on with the round it was in, if it is asked
for again with the same numbers and the same code.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.bench.outcome import Outcome, differences, identical_frames, read_outcome, untrue_rows
from jobs.bench.processes import Process, ended_with_us, start_run, wait_until
from jobs.bench.result import BenchResult, Target
from jobs.bench.soak_catalog import JOBS, job_of, write_catalog
from jobs.bench.soak_kills import DEADLINE_SECONDS, NODE, Blows, draw_kill, strike
from jobs.bench.work_log import WorkLog, count_work
from jobs.console import FAILED, INTERRUPTED, QUARANTINED, say
from jobs.yaml_source import dump_yaml
from pipeline.errors import ChunkError
from pipeline.keys import code_digest, digest
from pipeline.store import Store

CYCLES, VIDEOS = 50, 20
_QUICK_CYCLES, _QUICK_VIDEOS = 3, 6
#: What a run says that gets no processor for half a minute; it is begun again.
_STARVED = "Ray did not start"
#: Exit codes of runs: done, interrupted, failed, and those of signals that came before anybody could listen.
_EXPECTED = (QUARANTINED, INTERRUPTED, FAILED, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)
#: Columns of rounds that add up.
_SUMS = (
    "kills", "workers_killed", "frames_identical", "frames", "problems", "chunks", "lost", "results", "again",
    "beside", "published",
)  # fmt: skip


@dataclass(frozen=True)
class Calm:
    """An undisturbed run: what it left, its seconds before the first step a worker began and after."""

    outcome: Outcome
    starting: float
    working: float


@dataclass
class Round:
    """What happened to one output from empty to done. ``problems`` should stay empty."""

    blows: Blows = field(default_factory=Blows)
    exits: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def run(
    quick: bool, kept: Path, cycles: int | None = None, videos: int | None = None, seed: int = 0
) -> BenchResult:
    """All rounds; ``quick`` is three kills on six videos. Work lies below ``kept`` until all is well."""
    cycles = cycles or (_QUICK_CYCLES if quick else CYCLES)
    videos = videos or (_QUICK_VIDEOS if quick else VIDEOS)
    folder = (kept / f"soak-{digest([code_digest(), cycles, videos, seed])[:12]}").resolve()
    if not (folder / "in").exists():
        shutil.rmtree(folder / "unfinished", ignore_errors=True)
        write_catalog(folder / "unfinished", videos, seed)
        (folder / "unfinished").rename(folder / "in")
    rows: list[dict[str, Any]] = []
    while sum(row["kills"] for row in rows) < cycles:
        number = len(rows)
        over = folder / f"round-{number}.json"
        if not over.exists():
            job = tuple(JOBS)[number % len(JOBS)]
            left = cycles - sum(row["kills"] for row in rows)
            draws = random.Random(f"{seed}/{number}")
            row = _round(folder, number, job, _undisturbed(folder, job), left, draws)
            _keep(over, row)
        rows.append(json.loads(over.read_text()))
    if not any(row["problems"] for row in rows):
        shutil.rmtree(folder)
    return BenchResult("soak", tuple(rows), _targets(rows), {"all rounds": (_total(rows),)})


def _targets(rows: Sequence[dict[str, Any]]) -> tuple[Target, ...]:
    right = sum(row["problems"] == 0 for row in rows) / len(rows)
    again = sum(row["again"] for row in rows)
    fresh = 1.0 - again / max(1, sum(row["results"] for row in rows))
    same = sum(row["frames_identical"] for row in rows) / max(1, sum(row["frames"] for row in rows))
    return (
        Target("share of rounds that end as undisturbed, with every row true in between", right, 1.0),
        Target("share of published frames that decode as undisturbed", same, 1.0),
        Target("share of results that were not computed again once committed", fresh, 1.0),
    )


def _total(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The columns of all rounds together."""
    total: dict[str, Any] = {"rounds": len(rows)}
    for column in ("blows", "at_work", "exit_codes"):
        counts: Counter[str] = Counter()
        for row in rows:
            counts.update(row[column])
        total[column] = dict(sorted(counts.items()))
    return total | {column: sum(row[column] for row in rows) for column in _SUMS}


def _keep(path: Path, facts: Any) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(facts, indent=2) + "\n")
    unfinished.replace(path)


def _undisturbed(folder: Path, job: str) -> Calm:
    """The undisturbed run of ``job``, which is run once."""
    output = folder / f"calm-{job}".replace(" ", "-")
    over = output.with_suffix(".json")
    while not over.exists():
        say(f"{job}: undisturbed")
        path, output, log = _job_file(folder, f"calm-{job}", job)
        begun = time.monotonic()
        with ended_with_us(start_run(path, log.path)) as running:
            wait_until(log.exists, running, DEADLINE_SECONDS)
            working = time.monotonic()
            said = _end_of(running)
        if running.returncode == QUARANTINED:
            _keep(over, {"starting": working - begun, "working": time.monotonic() - working})
        elif _STARVED not in said:
            raise ChunkError(
                f"bench soak: a run ended with {running.returncode}: {said[-500:]}", code="bench"
            )
    return Calm(read_outcome(Store(str(output))), **json.loads(over.read_text()))


def _round(
    folder: Path, number: int, job: str, calm: Calm, kills: int, draws: random.Random
) -> dict[str, Any]:
    """One output from empty to done, with at most so many kills on the way."""
    begun = time.monotonic()
    path, output, log = _job_file(folder, f"round-{number}", job)
    store, state = Store(str(output)), Round()
    done = False
    while not done:
        kill, struck = draw_kill(job, draws), False
        with ended_with_us(start_run(path, log.path)) as running:
            if state.blows.kinds.total() < kills:
                struck = strike(running, log, job, kill, calm.starting, calm.working, state.blows)
            said = _end_of(running)
        state.exits[str(running.returncode)] += 1
        done = running.returncode == QUARANTINED
        state.problems += _complaints(running.returncode, said, nodeless=struck and kill.blow == NODE)
        state.problems += untrue_rows(store)
        last = " ".join(said.splitlines()[-1:])[:160]
        count = state.blows.kinds.total()
        say(f"round {number}, {job}: {count} kills, exit code {running.returncode}: {last}")
    found = read_outcome(store)
    state.problems += differences(calm.outcome, found)
    for problem in state.problems:
        say(f"problem: {problem}")
    if not state.problems:
        shutil.rmtree(output)
    return {
        "job": job,
        "kills": state.blows.kinds.total(),
        "blows": dict(state.blows.kinds),
        "at_work": dict(state.blows.steps),
        "workers_killed": state.blows.workers,
        "exit_codes": dict(state.exits),
        "frames_identical": identical_frames(calm.outcome, found),
        "frames": identical_frames(calm.outcome, calm.outcome),
        "problems": len(state.problems),
        **count_work(log.read()),
        "seconds": round(time.monotonic() - begun, 1),
    }


def _end_of(running: Process) -> str:
    """What a run that ends by itself or was told to has said; one that does not end is a failure."""
    try:
        return running.communicate(timeout=DEADLINE_SECONDS)[1]
    except subprocess.TimeoutExpired as error:
        raise ChunkError("bench soak: a run that was told to end did not", code="bench") from error


def _complaints(code: int, said: str, *, nodeless: bool) -> list[str]:
    """A traceback, a crash, or a failure that nobody asked for: without its node a run fails."""
    found = ["a traceback: " + said[-500:]] if "Traceback" in said else []
    if code not in _EXPECTED:
        found.append(f"a run ended with exit code {code}: {said[-300:]}")
    if code == FAILED and not nodeless and _STARVED not in said:
        found.append("a run failed: " + said[-300:])
    return found


def _job_file(folder: Path, name: str, job: str) -> tuple[Path, Path, WorkLog]:
    """Job file, output and log of a run that begins with nothing."""
    output = folder / name.replace(" ", "-")
    path, log = output.with_suffix(".yaml"), output.with_suffix(".log")
    shutil.rmtree(output, ignore_errors=True)
    log.unlink(missing_ok=True)
    path.write_text(dump_yaml(job_of(job, folder / "in", output)))
    return path, output, WorkLog(log)
