"""Flicker and seams, measured along the motion of the source."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]

# Occlusion and motion-boundary tests of Sundaram et al. 2010, as used by Lai et al. 2018, section 4.2.
OCCLUSION_SLOPE, OCCLUSION_FLOOR = 0.01, 0.5
BOUNDARY_SLOPE, BOUNDARY_FLOOR = 0.01, 0.002


@dataclass(frozen=True)
class Motion:
    """From one frame to the next: ``flow`` float32 [H, W, 2] (x, y in pixels) and where it can be trusted,
    ``visible`` bool [H, W]."""

    flow: NDArray[np.float32]
    visible: NDArray[np.bool_]


def motions(frames: Frames) -> list[Motion]:
    """DIS optical flow between consecutive frames uint8 [N, H, W, 3] (RGB), N - 1 of them."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return [_motion(dis.calc(a, b, None), dis.calc(b, a, None)) for a, b in itertools.pairwise(grey)]


def warp_errors(frames: Frames, along: list[Motion]) -> NDArray[np.float64]:
    """Mean squared difference on [0, 1] of each frame and the next one warped back to it, over visible
    pixels, [N - 1]. Lai et al. 2018, "Learning Blind Video Temporal Consistency", eq. 11, with the flow of
    the source."""
    values = frames.astype(np.float32) / 255.0
    errors = []
    for here, there, motion in zip(values, values[1:], along, strict=False):
        difference = (here - _sample(there, motion.flow)) ** 2
        errors.append(float(difference[motion.visible].mean()) if motion.visible.any() else 0.0)
    return np.array(errors)


def boundary_index(errors: NDArray[np.float64], borders: set[int]) -> float:
    """Mean error of the pairs that straddle a border (pair i joins frames i and i + 1; ``borders`` holds
    first frames of units) over the median of the others: 1 where no seam shows."""
    across = [error for i, error in enumerate(errors) if i + 1 in borders]
    inside = [error for i, error in enumerate(errors) if i + 1 not in borders]
    return float(np.mean(across) / np.median(inside))


def _motion(forward: NDArray[np.float32], backward: NDArray[np.float32]) -> Motion:
    back = _sample(backward, forward)
    height, width = forward.shape[:2]
    x, y = _grid(forward)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    square = (forward**2).sum(2)
    occluded = ((forward + back) ** 2).sum(2) > OCCLUSION_SLOPE * (
        square + (back**2).sum(2)
    ) + OCCLUSION_FLOOR
    gradient = sum(np.gradient(forward[..., c], axis=a) ** 2 for c in (0, 1) for a in (0, 1))
    moving_edge = gradient > BOUNDARY_SLOPE * square + BOUNDARY_FLOOR
    return Motion(forward, inside & ~occluded & ~moving_edge)


def _grid(flow: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rows, columns = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    return columns + flow[..., 0], rows + flow[..., 1]


def _sample(picture: NDArray[np.float32], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    return cv2.remap(picture, *_grid(flow), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
