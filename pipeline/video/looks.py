"""How every frame looks, in 26 bytes: what scenes, knots and anchors are planned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

#: Lightness of 4 x 4 cells, then a* and b* of 2 x 2 cells.
LIGHTNESS_CELLS = 16
LOOK_BYTES = LIGHTNESS_CELLS + 2 * 4
#: Steps of motion per code value of the small picture.
MOTION_STEPS = 64

Values = np.ndarray[Any, Any]


@dataclass(frozen=True)
class FrameLooks:
    """Two measurements per frame, in presentation order, packed: 26 MB for a million frames.

    ``motion``: uint16, little-endian: mean absolute difference of the small picture (8-bit BGR, halved and
    blurred) to the one before, in 1/64 code values; 0 for the first frame. ``cells``: 24 bytes, the mean L*
    of 4 x 4 cells, then a* and b* of 2 x 2 cells, as OpenCV scales them to 0..255.
    """

    motion: bytes
    cells: bytes

    @property
    def frames(self) -> int:
        """Number of frames measured."""
        return len(self.motion) // 2

    def motions(self) -> Values:
        """``motion`` as int64 [frames]."""
        return np.frombuffer(self.motion, "<u2").astype(np.int64)

    def looks(self) -> Values:
        """``cells`` as uint8 [frames, 24], a read-only view."""
        return np.frombuffer(self.cells, np.uint8).reshape(-1, LOOK_BYTES)
