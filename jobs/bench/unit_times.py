"""When the actors of a run were at work: one line per unit, written by the actors themselves."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from pipeline import graph
from pipeline.steps import enhance
from pipeline.work import UnitTask


@dataclass(frozen=True)
class Spell:
    """One unit in one actor: ``begin`` and ``end`` in seconds of the machine's monotonic clock, which its
    processes share; ``level`` is anchors, knots or chunk."""

    pid: int
    level: str
    frames: int
    begin: float
    end: float


@dataclass(frozen=True)
class SpellLog:
    """A file of spells, one line each, that any number of processes may append to."""

    path: Path

    def __call__(self, spell: Spell) -> None:
        with open(self.path, "ab", buffering=0) as file:
            file.write((json.dumps(asdict(spell)) + "\n").encode())

    def read(self) -> list[Spell]:
        """Everything so far."""
        return [Spell(**json.loads(line)) for line in self.path.read_text().splitlines()]


@contextlib.contextmanager
def timed_actors(log: SpellLog) -> Iterator[None]:
    """Within, actors of runs of this process log each unit they enhance."""

    class EnhanceUnits(enhance.EnhanceUnits):
        def _enhance(self, row: dict[str, Any]) -> dict[str, Any]:
            task, begun = UnitTask.from_json(row["task"]), time.monotonic()
            made = super()._enhance(row)
            log(Spell(os.getpid(), task.level, len(task.ordinals), begun, time.monotonic()))
            return made

    with mock.patch.object(graph, "EnhanceUnits", EnhanceUnits):
        yield


@contextlib.contextmanager
def sleeping_actors(log: SpellLog, seconds: float) -> Iterator[None]:
    """Within, actors sleep for ``seconds`` instead of enhancing, log it, and give frames back as they are."""

    class EnhanceUnits:
        def __init__(self, config: Any, style_keys: Any, context: Any) -> None:
            pass

        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            task, begun = UnitTask.from_json(row["task"]), time.monotonic()
            time.sleep(seconds)
            log(Spell(os.getpid(), task.level, len(task.ordinals), begun, time.monotonic()))
            return row

    with mock.patch.object(graph, "EnhanceUnits", EnhanceUnits):
        yield


def steady_use(spells: Sequence[Spell]) -> float:
    """Share of their time that actors were at work, between the moment when the last of them had begun its
    first unit and the moment when the first had ended its last. Nan where there is no such time."""
    by_actor: dict[int, list[Spell]] = {}
    for spell in spells:
        by_actor.setdefault(spell.pid, []).append(spell)
    start = max(min(spell.begin for spell in own) for own in by_actor.values())
    stop = min(max(spell.end for spell in own) for own in by_actor.values())
    if stop <= start:
        return float("nan")
    busy = sum(max(0.0, min(spell.end, stop) - max(spell.begin, start)) for spell in spells)
    return busy / (len(by_actor) * (stop - start))


def span(spells: Sequence[Spell]) -> float:
    """Seconds from the first begin to the last end."""
    return max(spell.end for spell in spells) - min(spell.begin for spell in spells)
