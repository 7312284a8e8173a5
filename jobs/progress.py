"""Progress of a run on stderr: a live bar on a terminal, lines of JSON elsewhere."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from jobs.tally import Tally
from pipeline.redact import redacted

if TYPE_CHECKING:
    from pipeline.events import Event

_LINE_SECONDS = 5.0
_BEAT_SECONDS = 15.0


@contextmanager
def progress() -> Iterator[Callable[[Event], None]]:
    """Yields the function that shows one event; the display ends with the block."""
    if sys.stderr.isatty():
        with _live() as show:
            yield show
        return
    show = JsonProgress(sys.stderr)
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(1.0):
            show.beat()

    beating = threading.Thread(target=beat, daemon=True)
    beating.start()
    try:
        yield show
    finally:
        ended.set()
        beating.join()


class JsonProgress:
    """One object per line and event, chunks at most every few seconds and always the last of a phase.

    ``seconds`` since the beginning, ``kind`` (phase, chunk, video, quarantined, log), ``message``, ``done``
    and ``total`` where they can be counted, and the figures of `Tally`. `beat`, called regularly, repeats
    the last line, with ``waiting``, when nothing has happened for a while.
    """

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._start = clock()
        self._last_line = float("-inf")
        self._last: dict[str, Any] = {}
        self._tally = Tally()

    def __call__(self, event: Event) -> None:
        now = self._clock()
        self._tally.note(event, now)
        counts = event.total > 0
        in_between = event.kind == "chunk" and counts and 0 < event.done < event.total
        if in_between and now - self._last_line < _LINE_SECONDS:
            return
        counted = {"done": event.done, "total": event.total} if counts else {}
        self._last = {
            "kind": event.kind,
            "message": redacted(event.message),
            **counted,
            **self._tally.figures,
        }
        self._print(now, self._last)

    def beat(self) -> None:
        """Say that work goes on, if the last line is long ago."""
        now = self._clock()
        if self._last and now - self._last_line >= _BEAT_SECONDS:
            self._print(now, {**self._last, "waiting": True})

    def _print(self, now: float, told: dict[str, Any]) -> None:
        self._last_line = now
        print(json.dumps({"seconds": round(now - self._start, 1), **told}), file=self._out, flush=True)


@contextmanager
def _live() -> Iterator[Callable[[Event], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    tally = Tally()
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("starting", total=None, figures="")

        def show(event: Event) -> None:
            tally.note(event, time.monotonic())
            if event.kind in ("video", "log", "quarantined"):
                bars.console.print(escape(redacted(event.message)), highlight=False)
            if event.kind == "phase":
                bars.reset(task)
            if event.kind in ("phase", "chunk"):
                total = event.total if event.total > 0 else None
                bars.update(task, description=escape(event.message), completed=event.done, total=total)
            bars.update(task, figures=_in_words(tally.figures))

        yield show


def _in_words(figures: dict[str, Any]) -> str:
    words = {"frames_per_second": "frames/s", "actors": "actors", "quarantined": "quarantined"}
    return ", ".join(f"{figures[name]} {word}" for name, word in words.items() if name in figures)
