"""Pictures that a ControlNet is shown, each made of one frame by classical means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

Pictures = np.ndarray[Any, Any]

#: Grey levels of an edge for each level per pixel of slope: a step of 204 between two pixels becomes white.
EDGE_GAIN = 4.0
_SMOOTHING = 1.0
#: Scharr's weights sum to 32 over two pixels' distance.
_SCHARR_SUM = 32.0


def tile(pictures: Pictures) -> Pictures:
    """The frames themselves, uint8 [B, H, W, 3]: what models of the kind tile add detail to."""
    return pictures


def softedge(pictures: Pictures) -> Pictures:
    """Edges, bright on black, uint8 [B, H, W, 3] of frames uint8 [B, H, W, 3].

    The slope of BT.601 luma, smoothed by a Gaussian of one pixel, after Scharr (2000), times `EDGE_GAIN`.
    This is no HED (Xie and Tu 2015), which soft-edge models were trained on: that is a network with weights
    of its own, and knows contours from texture. The gain is fixed, so that an edge does not change with the
    rest of the frame.
    """
    return np.stack([_edges(picture) for picture in pictures])


def _edges(picture: Pictures) -> Pictures:
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    smooth = cv2.GaussianBlur(grey, (0, 0), _SMOOTHING, borderType=cv2.BORDER_REPLICATE)
    across, down = (
        cv2.Scharr(smooth, cv2.CV_32F, *axis, scale=EDGE_GAIN / _SCHARR_SUM, borderType=cv2.BORDER_REPLICATE)
        for axis in ((1, 0), (0, 1))
    )
    edges = np.sqrt(across**2 + down**2).round().clip(0, 255).astype(np.uint8)
    return np.repeat(edges[..., None], 3, axis=-1)


CONDITIONS: dict[str, Callable[[Pictures], Pictures]] = {"tile": tile, "softedge": softedge}
