"""Presentation times of frames whose file states them badly: missing, twice, or running backwards."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

#: Fewer steps between frames do not tell which one is usual.
_TELLING_STEPS = 8
#: Share of equal steps that makes a video steady.
_STEADY_SHARE = 0.75


@dataclass(frozen=True)
class TimeFault:
    """The first frame whose time cannot stand: ``code`` is the reason word, ``ordinal`` the frame, and
    ``missing`` the number of frames without any time."""

    code: str
    ordinal: int
    missing: int


def find_fault(raw: Sequence[int | None]) -> TimeFault | None:
    """What is wrong with times in presentation order, or None: every time is there and they increase.

    Codes: ``no_timestamps`` (not one), ``pts_missing``, ``duplicate_pts``, ``pts_not_monotonic``.
    """
    missing = sum(pts is None for pts in raw)
    if raw and missing == len(raw):
        return TimeFault("no_timestamps", 0, missing)
    if missing:
        return TimeFault("pts_missing", raw.index(None), missing)
    for ordinal, (a, b) in enumerate(pairwise(raw), 1):
        if a is not None and b is not None and a >= b:
            return TimeFault("duplicate_pts" if a == b else "pts_not_monotonic", ordinal, 0)
    return None


def rebuild_times(raw: Sequence[int | None], step: int) -> tuple[list[int], int]:
    """Strictly increasing times that change as few of the known ones as possible.

    Kept is the longest run of frames, in order, whose times leave at least one tick for each frame
    between them. Frames between two kept ones are spread evenly; those before the first and after the
    last follow at ``step`` ticks.

    Returns:
        The times, and how many of them are not the file's own.

    Raises:
        ValueError: no time is known at all.
    """
    kept = _longest_consistent(raw)
    if not kept:
        raise ValueError("not one frame has a time")
    times = [0] * len(raw)
    first, last = kept[0], kept[-1]
    for i in range(first):
        times[i] = _known(raw, first) - (first - i) * step
    for i in range(last, len(raw)):
        times[i] = _known(raw, last) + (i - last) * step
    for a, b in pairwise(kept):
        start, span = _known(raw, a), _known(raw, b) - _known(raw, a)
        for i in range(a, b):
            times[i] = start + span * (i - a) // (b - a)
    return times, len(raw) - len(kept)


def usual_step(times: Sequence[int | None]) -> int | None:
    """The median distance of neighbours that both have a time and increase; None without any."""
    steps = sorted(b - a for a, b in pairwise(times) if a is not None and b is not None and b > a)
    return steps[len(steps) // 2] if steps else None


def running_time(pts: Sequence[int]) -> int:
    """First to last frame without the jumps of the clock, in time base units."""
    steps = np.diff(np.asarray(pts))
    return int(steps[steps <= _longest_step(steps)].sum())


def gap_warnings(pts: Sequence[int], time_base: Fraction) -> list[str]:
    """One sentence per hole in increasing times, at most eight."""
    steps = np.diff(np.asarray(pts))
    holes = np.flatnonzero(steps > _longest_step(steps))[:8]
    return [
        f"pts_gap: {float(int(steps[i]) * time_base):.3f} s before frame {i + 1}, times kept" for i in holes
    ]


def lost_frames(pts: Sequence[int] | NDArray[np.int64]) -> list[tuple[int, int]]:
    """Where frames of a steady video are not there: (the frame after the hole, frames missing before it).

    A video is steady if most of its steps are the usual one, give or take the rounding of a tick. In others
    a longer step tells nothing, and nothing is returned; nor for what `gap_warnings` calls a jump.
    """
    steps = np.diff(np.asarray(pts))
    if len(steps) < _TELLING_STEPS:
        return []
    usual = int(np.partition(steps, len(steps) // 2)[len(steps) // 2])
    if np.count_nonzero(np.abs(steps - usual) <= 1) < _STEADY_SHARE * len(steps):
        return []
    holes = np.flatnonzero((2 * steps > 3 * usual + 2) & (steps <= _longest_step(steps)))
    return [(int(i) + 1, (int(steps[i]) + usual // 2) // usual - 1) for i in holes]


def _known(raw: Sequence[int | None], ordinal: int) -> int:
    pts = raw[ordinal]
    assert pts is not None
    return pts


def _longest_consistent(raw: Sequence[int | None]) -> list[int]:
    """Ordinals of the longest subsequence in which time minus ordinal never falls (patience sorting).

    It is built from the end: of several as long, the one with the earlier frames is found.
    """
    tails: list[int] = []
    at_tail: list[int] = []
    after: dict[int, int] = {}
    for ordinal in reversed(range(len(raw))):
        pts = raw[ordinal]
        if pts is None:
            continue
        lead = ordinal - pts
        place = bisect_right(tails, lead)
        if place:
            after[ordinal] = at_tail[place - 1]
        if place == len(tails):
            tails.append(lead)
            at_tail.append(ordinal)
        else:
            tails[place], at_tail[place] = lead, ordinal
    kept = at_tail[-1:]
    while kept and kept[-1] in after:
        kept.append(after[kept[-1]])
    return kept


def _longest_step(steps: NDArray[np.int64]) -> int:
    """A longer step than ten usual ones is a hole; too few frames tell nothing of what is usual."""
    if len(steps) < _TELLING_STEPS:
        return int(steps.max(initial=0))
    return 10 * int(np.partition(steps, len(steps) // 2)[len(steps) // 2])
