"""Black bars around a film: letterbox, pillarbox, or both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from operators.estimation.frames import luma, require_frames

# Video black with a margin for noise, and the share of a row that must be as dark.
BLACK = 26.0 / 255.0
DARK_SHARE = 0.98
# A bar takes no more than this share of a side.
WIDEST = 0.4
# Frames darker than this tell nothing about bars (fades).
DARK_FRAME = 0.08


@dataclass(frozen=True)
class Bars:
    """Black rows at ``top`` and ``bottom`` and black columns at ``left`` and ``right``, in pixels."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def crop(self, frames: np.ndarray) -> np.ndarray:
        """What of [N, H, W, 3] lies inside the bars."""
        height, width = frames.shape[1:3]
        return frames[:, self.top : height - self.bottom, self.left : width - self.right]


def find_bars(frames: np.ndarray) -> Bars:
    """Border rows and columns of frames uint8 or uint16 [N, H, W, 3] that are black in every bright frame.

    No bars when fewer than two frames are bright enough to tell. Raises OperatorError for another shape or
    type.
    """
    require_frames(frames)
    planes = luma(frames)
    bright = planes[planes.mean((1, 2)) > DARK_FRAME]
    if len(bright) < 2:
        return Bars()
    brightest = bright.max(0)
    rows = np.quantile(brightest, DARK_SHARE, axis=1) > BLACK
    columns = np.quantile(brightest, DARK_SHARE, axis=0) > BLACK
    return Bars(_run(rows), _run(rows[::-1]), _run(columns), _run(columns[::-1]))


def _run(bright: np.ndarray) -> int:
    """Length of the dark run at the beginning, 0 when it is too long for a bar."""
    dark = int(np.argmax(bright)) if bright.any() else len(bright)
    return dark if dark <= WIDEST * len(bright) else 0
