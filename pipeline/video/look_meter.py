"""Measures how frames look while a file is being indexed."""

from __future__ import annotations

from array import array

import cv2
import numpy as np

from pipeline.video.looks import MOTION_STEPS, FrameLooks, Values

_BLUR = (3, 3)


class LookMeter:
    """Measures small pictures, each once and in order."""

    def __init__(self) -> None:
        self._motion = array("H")
        self._cells = bytearray()
        self._previous: Values | None = None

    def feed(self, picture: Values) -> None:
        """The next picture: uint8 BGR [h, w, 3], all of one size."""
        height, width = picture.shape[:2]
        half = cv2.resize(picture, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
        # Blurred, grain and coding noise do not count as motion.
        blurred = np.asarray(cv2.blur(half, _BLUR))
        previous, self._previous = self._previous, blurred
        moved = 0
        if previous is not None:
            total = int(cv2.norm(blurred, previous, cv2.NORM_L1))
            moved = total * MOTION_STEPS // blurred.size
        self._motion.append(moved)
        self._cells += _cells_of(half)

    def looks(self) -> FrameLooks:
        """What was measured so far."""
        return FrameLooks(np.array(self._motion, "<u2").tobytes(), bytes(self._cells))


def _cells_of(picture: Values) -> bytes:
    lab = cv2.cvtColor(cv2.resize(picture, (4, 4), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2LAB)
    # Codes of a* and b* are 128 for grey: rounding means of four is exact enough to tell looks apart.
    colour = cv2.resize(lab[..., 1:], (2, 2), interpolation=cv2.INTER_AREA)
    return bytes(np.ascontiguousarray(lab[..., 0])) + bytes(np.ascontiguousarray(colour))
