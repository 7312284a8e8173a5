"""Pictures as floats: differences of integers wrap around."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: A stored picture: RGB uint8 or uint16 [H, W, 3].
Frame = NDArray[Any]
Values = NDArray[np.float32]


def unit_range(frame: Frame) -> Values:
    """float32 on [0, 1] of a uint8 or uint16 picture; floats are taken to be on [0, 1] already."""
    if np.issubdtype(frame.dtype, np.integer):
        return frame.astype(np.float32) / np.float32(np.iinfo(frame.dtype).max)
    return frame.astype(np.float32, copy=False)
