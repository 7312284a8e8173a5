"""Motion at the resolution of a latent."""

from __future__ import annotations

import cv2
import numpy as np

from operators.flow.motion import Motion

_NOTHING = 1e-6


def at_cells(motion: Motion, height: int, width: int, *, covered: tuple[int, int] | None = None) -> Motion:
    """The motion of pixels as one of ``height`` x ``width`` cells, in cells.

    ``covered`` is the size (rows, columns) in pixels of what the cells cover, where a picture was padded
    below and on the right for the model; its edge then moves on in the padding. Flow is averaged over each
    cell; a cell is visible when all of its pixels are (occlusion is max-pooled: our reading of how Rerender
    and FRESCO bring it to latents).
    """
    rows, columns = covered or motion.flow.shape[:2]
    below, right = max(0, rows - motion.flow.shape[0]), max(0, columns - motion.flow.shape[1])
    edges = ((0, below), (0, right))
    flow = np.pad(motion.flow, (*edges, (0, 0)), mode="edge")
    hidden = np.pad(~motion.visible, edges, mode="edge").astype(np.float32)
    unit = np.array([width / flow.shape[1], height / flow.shape[0]], dtype=np.float32)
    return Motion(
        cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA) * unit,
        cv2.resize(hidden, (width, height), interpolation=cv2.INTER_AREA) < _NOTHING,
    )
