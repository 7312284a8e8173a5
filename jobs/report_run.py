"""What a report says of a run as a whole: frames per second over time, and which process did what when."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.charts import LEFT, RIGHT, WIDTH, Chart, Curve, Tick, draw, ticks

if TYPE_CHECKING:
    from pipeline.manifest import ChunkRow

ROW_HEIGHT = 18.0
_BINS = 60
_ACTORS = 40
#: Clocks of machines may differ by so many seconds.
_SKEW = 60.0
_RUN_ID = re.compile(r"(\d{8}T\d{6})Z?-")


@dataclass(frozen=True)
class Bar:
    """One unit of work: its place in pixels, its level (anchors, knot, chunk) and what it was."""

    x: float
    y: float
    width: float
    level: str
    what: str


@dataclass(frozen=True)
class Timeline:
    """A line per process, `ROW_HEIGHT` pixels high; ``hidden`` processes are not shown."""

    labels: tuple[Tick, ...]
    bars: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    height: float
    hidden: int


def rows_of_run(rows: Sequence[ChunkRow], run_id: str, seconds: float | None) -> list[ChunkRow]:
    """Units that were computed while the run went on; all that have a time where its id tells none."""
    timed = [row for row in rows if 0.0 < row.begun <= row.ended]
    found = _RUN_ID.match(run_id)
    if not found:
        return timed
    start = calendar.timegm(time.strptime(found[1], "%Y%m%dT%H%M%S"))
    end = start + seconds if seconds is not None else float("inf")
    return [row for row in timed if row.ended >= start - _SKEW and row.begun <= end + _SKEW]


def throughput(rows: Sequence[ChunkRow]) -> Chart | None:
    """Frames per second over the run; a chunk's frames count evenly over the time it took."""
    chunks = [row for row in rows if row.level == "chunk"]
    if not chunks:
        return None
    start, end = min(row.begun for row in rows), max(row.ended for row in rows)
    width = max(end - start, 1e-3) / _BINS
    rates = [0.0] * _BINS
    for row in chunks:
        took = max(row.ended - row.begun, 1e-3)
        for number in range(_BINS):
            left = start + number * width
            shared = min(row.ended, left + width) - max(row.begun, left)
            rates[number] += max(0.0, shared) / took * row.frames / width
    points = tuple(((number + 0.5) * width, rate) for number, rate in enumerate(rates))
    return draw(
        "Throughput", [Curve("frames per second", points)], unit="frames/s", x_unit="seconds of the run"
    )


def timeline(rows: Sequence[ChunkRow]) -> Timeline | None:
    """Which process computed what, and when. None where nothing has a time."""
    if not rows:
        return None
    start, end = min(row.begun for row in rows), max(row.ended for row in rows)
    scale = (WIDTH - LEFT - RIGHT) / max(end - start, 1e-3)
    actors = sorted({row.actor for row in rows})
    lines = {actor: number for number, actor in enumerate(actors[:_ACTORS])}
    bars: dict[tuple[str, float], Bar] = {}
    for row in rows:
        if row.actor not in lines:
            continue
        x = LEFT + (row.begun - start) * scale
        # Knots of one group share their time; one bar stands for them.
        bars.setdefault(
            (row.actor, row.begun),
            Bar(
                round(x, 2),
                lines[row.actor] * ROW_HEIGHT + 3,
                round(max(1.0, (row.ended - row.begun) * scale), 2),
                row.level,
                f"{row.level} {row.chunk} of scene {row.scene}, {row.video_uri}: frames {row.first} to "
                f"{row.last - 1}, {row.ended - row.begun:.1f} s",
            ),
        )
    shown = [value for value in ticks(0.0, end - start) if value <= end - start]
    return Timeline(
        tuple(Tick((lines[a] + 0.5) * ROW_HEIGHT + 4, f"#{lines[a] + 1}") for a in lines),
        tuple(bars.values()),
        tuple(Tick(round(LEFT + value * scale, 2), f"{value:g}") for value in shown),
        len(lines) * ROW_HEIGHT,
        len(actors) - len(lines),
    )
