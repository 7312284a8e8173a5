"""Where the knots of a scene lie: a pure function of its frames' looks and the spec.

A knot follows the one before it once the picture has travelled `KNOT_TRAVEL` since, at least `LEAST_GAP`
and at most ``knot_every`` frames later. FRESCO (arXiv 2403.12962), as we read its code, also keeps keyframes
between a smallest and a largest gap, and inserts the largest blurred difference first; walking forward needs
one pass, and what happens later in a scene moves no knot but the last ones. Fades, dissolves and fast motion
all are travel, so they get more knots; flashes are neither travel nor knots.
"""

from __future__ import annotations

import numpy as np

from pipeline.video.looks import MOTION_STEPS, FrameLooks, Values

#: Smallest gap between two knots, less where ``knot_every`` is below twice as much.
LEAST_GAP = 4
#: Travel after which a knot is due, in code values of the small picture summed over frames: pictures that
#: change by 4 per frame get their knots 16 frames apart, by 8 per frame (handheld close-ups, passing cars) 8.
KNOT_TRAVEL = 64


def travel_of(looks: FrameLooks, flashes: Values) -> Values:
    """How far the picture has moved up to each frame, from 0: int64 [frames], ascending, in 1/64 code
    values. ``flashes`` (bool [frames]) begin and end without being counted."""
    motion = looks.motions()
    motion[flashes] = 0
    motion[1:][flashes[:-1]] = 0
    return np.cumsum(motion)


def place_knots(
    first: int, last: int, knot_every: int, flashes: Values, travel: Values | None
) -> tuple[int, ...]:
    """Knots of the scene of frames ``[first, last)``: both ends, and gaps of at most ``knot_every``.

    ``travel`` None places them evenly. A frame of ``flashes`` becomes a knot where the scene begins or ends
    with it, or where nothing else lies within reach. Gaps are never below the least one unless the whole
    scene is.
    """
    end = last - 1
    least = max(1, min(LEAST_GAP, knot_every // 2))
    knots = [first]
    while knots[-1] < end:
        latest = min(knots[-1] + knot_every, end)
        due = latest if travel is None else _due(travel, knots[-1])
        wanted = min(max(due, knots[-1] + least), latest)
        knots.append(_settled(wanted, knots[-1], end, least, latest, flashes))
    return tuple(knots)


def _due(travel: Values, knot: int) -> int:
    return int(np.searchsorted(travel, travel[knot] + KNOT_TRAVEL * MOTION_STEPS))


def _settled(wanted: int, knot: int, end: int, least: int, latest: int, flashes: Values) -> int:
    """``wanted``, moved off flashes, and such that what is left of the scene is no stump."""
    if end - wanted < least:
        wanted = end if latest == end else end - least
    if wanted == end or not flashes[wanted]:
        return wanted
    earlier = range(wanted - 1, knot + least - 1, -1)
    later = range(wanted + 1, min(latest, end - least) + 1)
    return next((frame for frame in (*earlier, *later) if not flashes[frame]), wanted)
