"""Does a border between units of work show?"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np


def boundary_index(errors: Sequence[float], pairs: Collection[int]) -> float:
    """Mean error at borders over the median of the others: 1 where no seam shows.

    ``errors[i]`` is that of frames i and i + 1 (`warp_error`); ``pairs`` holds those i that straddle a
    border: for a unit that begins with frame f, f - 1. NaN errors are left out; NaN when either
    side is empty.
    """
    values = np.asarray(errors, dtype=np.float64)
    at_border = np.isin(np.arange(len(values)), list(pairs))
    known = ~np.isnan(values)
    across, inside = values[at_border & known], values[~at_border & known]
    if not len(across) or not len(inside):
        return float("nan")
    return float(across.mean() / np.median(inside))


def relative_boundary_index(
    errors: Sequence[float], source_errors: Sequence[float], pairs: Collection[int]
) -> float:
    """The boundary index of a video over the source's own on the same pairs: what the source does there by
    itself (a fast movement, a cut) does not count."""
    return boundary_index(errors, pairs) / boundary_index(source_errors, pairs)


def pairs_across(firsts: Collection[int], count: int) -> set[int]:
    """Pairs that straddle the beginning of a unit, of a video of ``count`` frames."""
    return {first - 1 for first in firsts if 0 < first < count}


def pairs_touching(frames: Collection[int], count: int) -> set[int]:
    """Pairs with one of ``frames`` (knots) on either side, of a video of ``count`` frames."""
    both = {pair for frame in frames for pair in (frame - 1, frame)}
    return {pair for pair in both if 0 <= pair < count - 1}
