"""What every estimator looks at: decoded frames as grey pictures on [0, 1]."""

from __future__ import annotations

import numpy as np

from operators.errors import OperatorError
from operators.luma import LUMA_WEIGHTS

#: Smallest side that is estimated from, in pixels.
SMALLEST_SIDE = 32


def require_frames(frames: np.ndarray) -> None:
    """Raises OperatorError unless ``frames`` is uint8 or uint16 [N, H, W, 3] with sides of 32 or more."""
    shape, fits = frames.shape, frames.ndim == 4 and frames.shape[-1] == 3 and len(frames) > 0
    if not fits or frames.dtype not in (np.uint8, np.uint16) or min(shape[1:3]) < SMALLEST_SIDE:
        raise OperatorError(
            f"frames: expected uint8 or uint16 [N, H, W, 3] with sides of {SMALLEST_SIDE} or more, got "
            f"{frames.dtype} {shape}; give at least one decoded frame"
        )


def on_unit_range(frames: np.ndarray) -> np.ndarray:
    """Codes to float32 on [0, 1]."""
    return frames.astype(np.float32) / np.float32(np.iinfo(frames.dtype).max)


def luma(frames: np.ndarray) -> np.ndarray:
    """BT.601 luma of [..., H, W, 3], float32 [..., H, W] on [0, 1]."""
    return on_unit_range(frames) @ np.array(LUMA_WEIGHTS, dtype=np.float32)
