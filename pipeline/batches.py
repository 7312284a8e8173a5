"""Which frames of a chunk share network calls."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from pipeline.settings import ConsistencySettings


def batches_of(
    consistency: ConsistencySettings, open_frames: Sequence[int], grid: Sequence[int]
) -> list[list[int]]:
    """The batches of ``open_frames`` (ascending, absolute) among the knots ``grid``, as the policy wants
    them: all frames in one, the first one apart, or fixed shapes between knots."""
    if not open_frames:
        return []
    size = consistency.frames_per_batch
    if consistency.sharing == "chunk_joint":
        return [list(open_frames)]
    if consistency.sharing == "chunk_first":
        return [[open_frames[0]], *fixed_batches(open_frames[1:], grid, size)]
    return fixed_batches(open_frames, grid, size)


def fixed_batches(open_frames: Sequence[int], grid: Sequence[int], size: int) -> list[list[int]]:
    """Fixed-shape batches that never cross a knot: a frame's row in its batch follows from the grid alone.
    The last batch of an interval repeats its last frame."""
    batches: list[list[int]] = []
    for start, stop in zip(grid, [*grid[1:], grid[-1] + 1], strict=True):
        inside = [ordinal for ordinal in open_frames if start <= ordinal < stop]
        for at in range(0, len(inside), size):
            batch = inside[at : at + size]
            batches.append(batch + [batch[-1]] * (size - len(batch)))
    return batches


def knots_around(frame: int, grid: Sequence[int]) -> set[int]:
    """The knots next to a frame: two between knots, at a knot that one and the one before it."""
    at = bisect.bisect_left(grid, frame)
    return set(grid[max(0, at - 1) : at + 1])
