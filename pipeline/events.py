"""What a run tells while it runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.metrics import show_left


@dataclass(frozen=True)
class Event:
    """One piece of progress: ``done`` of ``total`` units of a phase (0 of 0 when not countable).

    Of a unit (kind chunk) also its number of ``frames`` and the ``actor`` that computed it.
    """

    kind: Literal["phase", "video", "chunk", "log", "quarantined"]
    message: str
    done: int
    total: int
    frames: int = 0
    actor: str = ""


OnEvent = Callable[[Event], None]


def phase_events(on_event: OnEvent, label: str, total: int) -> Callable[[dict[str, Any]], None]:
    """Announce a phase; the returned function is told each finished row."""
    done = 0
    if total:
        on_event(Event("phase", label, 0, total))
        show_left(label, total)

    def show(row: dict[str, Any]) -> None:
        nonlocal done
        done += 1
        frames = len(json.loads(row["task"])["ordinals"]) if "task" in row else 0
        on_event(Event("chunk", label, done, total, frames, str(row.get("actor", ""))))
        show_left(label, total - done)

    return show
