"""Progress of a run on stderr: a live bar on a terminal, plain lines with percentages elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

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
    show = PlainProgress(sys.stderr)
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


class PlainProgress:
    """One line per event, chunks at most every few seconds and always the first and last of a phase.

    `beat`, called regularly, repeats the last line when nothing has happened for a while.
    """

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._start = clock()
        self._last_line = float("-inf")
        self._last_text = ""

    def __call__(self, event: Event) -> None:
        now = self._clock()
        counts = event.total > 0
        in_between = event.kind == "chunk" and counts and 0 < event.done < event.total
        if in_between and now - self._last_line < _LINE_SECONDS:
            return
        share = f"{100 * event.done // event.total:3d} % ({event.done}/{event.total}) " if counts else ""
        self._last_text = f"{share}{event.message}"
        self._print(now, self._last_text)

    def beat(self) -> None:
        """Say that work goes on, if the last line is long ago."""
        now = self._clock()
        if self._last_text and now - self._last_line >= _BEAT_SECONDS:
            self._print(now, f"{self._last_text} ...")

    def _print(self, now: float, text: str) -> None:
        self._last_line = now
        print(f"[{now - self._start:6.1f} s] {redacted(text)}", file=self._out, flush=True)


@contextmanager
def _live() -> Iterator[Callable[[Event], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("starting", total=None)

        def show(event: Event) -> None:
            if event.kind in ("video", "log"):
                bars.console.print(escape(redacted(event.message)), highlight=False)
            if event.kind in ("phase", "chunk"):
                total = event.total if event.total > 0 else None
                bars.update(task, description=escape(event.message), completed=event.done, total=total)

        yield show
