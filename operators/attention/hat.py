"""Hat-shaped knot weights: why a knot or chunk border cannot show.

Between knots L and R a frame at relative position u in [0, 1] weighs them (1-u, u). A knot's weight is
zero exactly where it leaves the bank, so the attended set is continuous in the frame index over the whole
scene, and there is nothing to blend.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Bracket:
    """The knots around a frame (absolute ordinals) and the weight of each; they sum to 1."""

    left: int
    right: int
    left_weight: float
    right_weight: float


def bracket(frame: int, knots: Sequence[int], *, hard: bool = False) -> Bracket:
    """Bracketing knots of ``frame``, ``knots`` ascending and covering it.

    ``hard`` gives the nearest knot the whole weight (ties to the left): the baseline whose switch in
    mid-interval shows, kept for comparison.
    """
    if not knots or not knots[0] <= frame <= knots[-1]:
        raise ValueError(f"frame {frame} lies outside the knots {list(knots)[:1]}..{list(knots)[-1:]}")
    at = bisect.bisect_left(knots, frame)
    if knots[at] == frame:
        return Bracket(frame, frame, 1.0, 0.0)
    left, right = knots[at - 1], knots[at]
    u = Fraction(frame - left, right - left)
    if hard:
        u = Fraction(int(u > Fraction(1, 2)))
    return Bracket(left, right, float(1 - u), float(u))
