"""E_warp: what changes along the motion of the source, between neighbours and over longer distances."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from operators.flow.motion import Motion, chain
from operators.flow.warp import warp
from operators.metrics.unit_range import Frame, unit_range


def warp_error(here: Frame, there: Frame, motion: Motion) -> float:
    """Mean squared difference on [0, 1] of ``here`` and ``there`` warped back to it, over visible pixels.

    Lai et al. 2018, "Learning Blind Video Temporal Consistency", eq. 11, with the ``motion`` of the *source*
    between the two; reported x1e-3 by convention. NaN where nothing is visible. Independent noise of standard
    deviation s costs between s^2 (1 + 4/9) (flows that fall uniformly between pixels: bilinear interpolation
    averages it) and 2 s^2 (whole pixels).
    """
    if not motion.visible.any():
        return math.nan
    difference = unit_range(here) - warp(unit_range(there), motion.flow)
    return float(np.square(difference, dtype=np.float64)[motion.visible].mean())


@dataclass
class _Begun:
    frame: Frame
    age: int = 0
    motion: Motion | None = None


class WarpErrors:
    """E_warp of a video that streams by, between frames ``distances`` apart, along chained motions.

    Holds as many frames and motions as the longest distance, however long the video. ``errors[k]`` has one
    value per pair (t, t + k) in order of t.
    """

    def __init__(self, distances: Sequence[int] = (1,)) -> None:
        self.errors: dict[int, list[float]] = {distance: [] for distance in sorted(distances)}
        self._begun: deque[_Begun] = deque()

    def add(self, frame: Frame, motion: Motion | None) -> None:
        """The next frame, and the source's motion to it from the frame before (None for the first)."""
        if motion is not None:
            for start in self._begun:
                start.motion = motion if start.motion is None else chain(start.motion, motion)
                start.age += 1
                if start.age in self.errors:
                    self.errors[start.age].append(warp_error(start.frame, frame, start.motion))
        self._begun.append(_Begun(frame))
        if len(self._begun) > max(self.errors):
            self._begun.popleft()

    def mean(self, distance: int) -> float:
        """Mean over pairs in which anything is visible; NaN where there is none."""
        return mean_of(self.errors[distance])


def mean_of(values: Sequence[float]) -> float:
    """Mean of what is no NaN; NaN of nothing."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
