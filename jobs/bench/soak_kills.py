"""The kills of `bench soak`: which process, how, and at which step of its work or of its start."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jobs.bench.processes import Process, wait_until, workers_below
from jobs.bench.work_log import Seen, WorkLog

DEADLINE_SECONDS = 1800.0
#: A kill that waits for no step: it may come while Ray or the model starts.
STARTING = "start"
#: Steps that kills wait for, in the order in which a job first comes to them.
STEPS: Mapping[str, tuple[str, ...]] = {
    "identity": ("index", "transcode", "assemble", "publish"),
    "one step": ("index", "anchors", "knots", "enhance", "encode", "assemble", "publish"),
}
#: Share of the kills of drivers before which one of their processes dies.
_WORKERS_DIE = 0.5
#: After the step has begun, a blow falls within so many seconds.
_SOON = 1.0


def _kill_all(run: Process) -> None:
    os.killpg(run.pid, signal.SIGKILL)


def _kill_node(run: Process) -> None:
    for raylet in workers_below(run.pid, "/raylet/raylet"):
        os.kill(raylet, signal.SIGKILL)


#: The machine under a driver: Ray ends the driver then, in no good order.
NODE = "SIGKILL of the node"
#: Ways for a driver to end before its work is done.
BLOWS: dict[str, Callable[[Process], None]] = {
    "SIGKILL": lambda run: run.send_signal(signal.SIGKILL),
    "SIGKILL to all": _kill_all,
    "SIGTERM": lambda run: run.send_signal(signal.SIGTERM),
    "SIGINT": lambda run: run.send_signal(signal.SIGINT),
    NODE: _kill_node,
}


@dataclass(frozen=True)
class Kill:
    """What is to happen to one run: ``blow`` ends its driver when step ``aim`` or a later one begins, or, for
    `STARTING`, after a share ``when`` of the seconds that an undisturbed run takes to come to work. If
    ``worker`` is not None a process below the driver dies first, the one at that share of their list, and
    the driver after ``when`` of the seconds that an undisturbed run works."""

    blow: str
    aim: str
    when: float
    worker: float | None


@dataclass
class Blows:
    """What has happened: ends of drivers by kind, the steps that were at work then, processes below them."""

    kinds: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    workers: int = 0


def draw_kill(job: str, draws: random.Random) -> Kill:
    """One kill for a run of ``job``, anything as likely as anything else of its kind."""
    blow, aim = draws.choice(tuple(BLOWS)), draws.choice((STARTING, *STEPS[job]))
    when, which = draws.random(), draws.random()
    return Kill(blow, aim, when, which if draws.random() < _WORKERS_DIE else None)


def strike(
    run: Process, log: WorkLog, job: str, kill: Kill, starting: float, working: float, blows: Blows
) -> bool:
    """Do ``kill`` to a run, and return whether it was; one that is done before is left to its end.
    ``starting`` and ``working``: seconds that an undisturbed run takes before its first step and after."""
    before = log.size
    if kill.aim == STARTING:
        _wait(kill.when * starting, run)
    else:
        awaited = STEPS[job][STEPS[job].index(kill.aim) :]
        wait_until(lambda: _has_begun(log.read(before), awaited), run, DEADLINE_SECONDS)
        if kill.worker is None:
            _wait(kill.when * _SOON, run)
    if kill.worker is not None:
        # A node dies with one of Ray's agents on it: that is another kind of blow.
        workers = sorted({*workers_below(run.pid, "ray::")} - {*workers_below(run.pid, "Agent")})
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(workers[int(kill.worker * len(workers))], signal.SIGKILL)
                blows.workers += 1
        _wait(kill.when * working / 2, run)
    alive = run.poll() is None
    if alive:
        at_work = steps_at_work(log.read(before), _is_alive)
        BLOWS[kill.blow](run)
        blows.kinds[kill.blow] += 1
        blows.steps.update(at_work or [STARTING if log.size == before else "between steps"])
    return alive


def steps_at_work(seen: Sequence[Seen], is_alive: Callable[[int], bool]) -> set[str]:
    """Steps that have begun and not ended, each once, in processes that live."""
    open_steps: dict[int, list[str]] = {}
    for one in seen:
        stack = open_steps.setdefault(one.pid, [])
        if one.moment == "begin":
            stack.append(one.step)
        elif one.step in stack:
            del stack[stack.index(one.step) :]
    return {stack[-1] for process, stack in open_steps.items() if stack and is_alive(process)}


def _has_begun(seen: Sequence[Seen], steps: Sequence[str]) -> bool:
    return any(one.moment == "begin" and not one.found and one.step in steps for one in seen)


def _wait(seconds: float, run: Process) -> None:
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > seconds, run, DEADLINE_SECONDS)


def _is_alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()
