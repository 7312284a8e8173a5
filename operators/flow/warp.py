"""Bilinear backward warps along a flow."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from operators.flow.dis import Flow


def warp(values: NDArray[Any], flow: Flow) -> NDArray[np.float32]:
    """``values[x + flow[x]]``, float32, bilinear; the edge is repeated outside.

    ``values`` [H, W] or [H, W, C]; integers are converted before anything is mixed.
    """
    planes = cv2.split(values.astype(np.float32, copy=False))
    # Plane by plane: with several channels OpenCV rounds positions to 1/32 pixel.
    moved = [
        cv2.remap(plane, *targets(flow), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for plane in planes
    ]
    return moved[0] if values.ndim == 2 else np.stack(moved, axis=-1)


def targets(flow: Flow) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where each pixel goes: columns and rows, float32 [H, W] each."""
    rows, columns = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    return columns + flow[..., 0], rows + flow[..., 1]


def inside(flow: Flow) -> NDArray[np.bool_]:
    """Which pixels stay in the picture, bool [H, W]."""
    x, y = targets(flow)
    height, width = flow.shape[:2]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
