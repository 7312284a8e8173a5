"""Dense optical flow by OpenCV's DIS: no weights, the same bits for the same pictures."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

#: Displacement in pixels per pixel, float32 [H, W, 2] (x, y).
Flow = NDArray[np.float32]
Picture = NDArray[Any]

#: Below this on the shorter side OpenCV 5.0 refuses pictures, or reads outside of them when they are long.
_SAFE_SIDE = 32


def dis_flow(here: Picture, there: Picture) -> Flow:
    """Flow from ``here`` to ``there``: ``there[x + flow[x]]`` shows what ``here[x]`` shows.

    Both are RGB [H, W, 3] or grey [H, W], uint8 or uint16, of equal size. Kroeger et al. 2016, "Fast Optical
    Flow using Dense Inverse Search", with OpenCV's preset "medium" (the fast one is off by 0.06 pixels per
    frame on a pan, which adds up in chains). The result does not depend on OpenCV's number of threads: its
    inverse search has a fixed number of stripes.
    Raises ValueError for pictures of different sizes.
    """
    first, second = grey(here), grey(there)
    if first.shape != second.shape:
        raise ValueError(f"flow needs pictures of one size, got {first.shape} and {second.shape}")
    height, width = first.shape
    below, right = max(0, _SAFE_SIDE - height), max(0, _SAFE_SIDE - width)
    if below or right:
        first, second = (
            cv2.copyMakeBorder(x, 0, below, 0, right, cv2.BORDER_REPLICATE) for x in (first, second)
        )
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(first, second, None)
    return np.ascontiguousarray(flow[:height, :width])


def grey(picture: Picture) -> NDArray[np.uint8]:
    """Luma uint8 [H, W] (BT.601 weights) of an RGB or grey picture, uint8 or uint16."""
    if picture.dtype == np.uint16:
        picture = (picture >> 8).astype(np.uint8)
    return picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
