"""Motion of the frames between two pictures to both of them, chained from frame to frame."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from operators.flow.cells import at_cells
from operators.flow.dis import Picture, grey
from operators.flow.motion import Motion, chain, motion_both_ways


def small_grey(picture: Picture, shrink: float) -> NDArray[np.uint8]:
    """Luma uint8 of an RGB picture [H, W, 3] (uint8 or uint16), sides times ``shrink`` in (0, 1], rounded:
    what motion is measured on where less than pixels is asked."""
    sides = [max(1, round(side * shrink)) for side in picture.shape[:2]]
    return cv2.resize(grey(picture), sides[::-1], interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class ToEnds:
    """Motion from one picture to the first and to the last of its interval."""

    left: Motion
    right: Motion

    def at_cells(self, height: int, width: int, covered: tuple[int, int]) -> ToEnds:
        """Both motions at latent resolution; see `operators.flow.cells.at_cells`."""
        return ToEnds(
            *(at_cells(motion, height, width, covered=covered) for motion in (self.left, self.right))
        )


def motions_to_ends(pictures: Sequence[Picture]) -> list[ToEnds]:
    """For each picture strictly between the first and the last one, the motion to these two.

    Neighbours are compared and the steps chained, so that displacements may grow beyond what one flow finds.
    A function of the pictures alone. ``pictures``: at least two, RGB or grey, of equal size; all N - 2
    results are held.
    """
    steps = [motion_both_ways(here, there) for here, there in itertools.pairwise(pictures)]
    count = len(pictures)
    to_left: dict[int, Motion] = {}
    to_right: dict[int, Motion] = {}
    for i in range(1, count - 1):
        back = steps[i - 1][1]
        to_left[i] = back if i == 1 else chain(back, to_left[i - 1])
    for i in range(count - 2, 0, -1):
        onward = steps[i][0]
        to_right[i] = onward if i == count - 2 else chain(onward, to_right[i + 1])
    return [ToEnds(to_left[i], to_right[i]) for i in range(1, count - 1)]
