"""Progress of a run on stderr: a live bar on a terminal, plain lines with percentages elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from pipeline.events import Event

_LINE_SECONDS = 5.0


@contextmanager
def progress() -> Iterator[Callable[[Event], None]]:
    """Yields the function that shows one event; the display ends with the block."""
    if sys.stderr.isatty():
        with _live() as show:
            yield show
    else:
        yield PlainProgress(sys.stderr)


class PlainProgress:
    """One line per event, chunks at most every few seconds and always the first and last of a phase."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._start = clock()
        self._last_line = float("-inf")

    def __call__(self, event: Event) -> None:
        now = self._clock()
        counts = event.total > 0
        in_between = event.kind == "chunk" and counts and 0 < event.done < event.total
        if in_between and now - self._last_line < _LINE_SECONDS:
            return
        self._last_line = now
        share = f"{100 * event.done // event.total:3d} % ({event.done}/{event.total}) " if counts else ""
        print(f"[{now - self._start:6.1f} s] {share}{event.message}", file=self._out, flush=True)


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
                bars.console.print(escape(event.message), highlight=False)
            if event.kind in ("phase", "chunk"):
                total = event.total if event.total > 0 else None
                bars.update(task, description=escape(event.message), completed=event.done, total=total)

        yield show
