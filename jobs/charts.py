"""Geometry of small line charts: figures in, coordinates of an SVG out; `jobs/templates` draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 560.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 12.0, 12.0, 26.0
_TICKS = 4

Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """What to draw: (x, y) in data units, ascending in x. ``dots``: single values, not joined. A step in x of
    more than ``gap`` leaves the line open: nothing is known of what is between."""

    label: str
    points: tuple[Point, ...]
    dots: bool = False
    gap: float = math.inf


@dataclass(frozen=True)
class Tick:
    """A value on an axis: where, in pixels, and what is written there."""

    at: float
    label: str


@dataclass(frozen=True)
class Drawn:
    """A curve in pixels: an SVG path, or the centres of dots."""

    label: str
    path: str
    dots: tuple[Point, ...]


@dataclass(frozen=True)
class Chart:
    """A chart in pixels, `WIDTH` by `HEIGHT`; ``bound`` is the height of a limit's line, None without."""

    title: str
    unit: str
    x_unit: str
    note: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    curves: tuple[Drawn, ...]
    bound: float | None


def draw(
    title: str,
    curves: Sequence[Curve],
    *,
    unit: str = "",
    x_unit: str = "seconds",
    note: str = "",
    bound: float | None = None,
    from_zero: bool = True,
) -> Chart | None:
    """The chart of what is finite in ``curves``; None where nothing is. ``bound``: a limit, a dashed line."""
    known = [
        Curve(
            c.label, tuple(p for p in c.points if math.isfinite(p[0]) and math.isfinite(p[1])), c.dots, c.gap
        )
        for c in curves
    ]
    known = [curve for curve in known if curve.points]
    if not known:
        return None
    xs = [x for curve in known for x, _ in curve.points]
    ys = [y for curve in known for _, y in curve.points] + ([] if bound is None else [bound])
    x_axis = _Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    y_ticks = ticks(min(0.0, *ys) if from_zero else min(ys), max(ys))
    y_axis = _Axis(min(y_ticks[0], *ys), max(y_ticks[-1], *ys), HEIGHT - BOTTOM, TOP)
    inside = [x for x in ticks(min(xs), max(xs)) if min(xs) <= x <= max(xs)]
    return Chart(
        title,
        unit,
        x_unit,
        note,
        tuple(Tick(x_axis(x), f"{x:g}") for x in inside),
        tuple(Tick(y_axis(y), f"{y:g}") for y in y_ticks),
        tuple(_drawn(curve, x_axis, y_axis) for curve in known),
        None if bound is None else y_axis(bound),
    )


def ticks(low: float, high: float) -> list[float]:
    """A few round values (1, 2 or 5 times a power of ten), the first at most ``low``, the last at least
    ``high``."""
    span = (high - low) or abs(high) or 1.0
    raw = span / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * f for f in (1.0, 2.0, 5.0, 10.0) if raw <= power * f * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.begin + share * (self.end - self.begin), 2)


def _drawn(curve: Curve, x_axis: _Axis, y_axis: _Axis) -> Drawn:
    placed = [(x_axis(x), y_axis(y)) for x, y in curve.points]
    if curve.dots:
        return Drawn(curve.label, "", tuple(placed))
    words: list[str] = []
    before = -math.inf
    for (x, _), (left, top) in zip(curve.points, placed, strict=True):
        words.append(f"{'L' if x - before <= curve.gap and words else 'M'}{left} {top}")
        before = x
    return Drawn(curve.label, " ".join(words), ())
