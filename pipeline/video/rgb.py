"""Frames as the model sees them: full-range RGB, upright, in light that it knows; and the way back."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from pipeline.video.colour import frame_to_rgb, rgb_to_frame
from pipeline.video.geometry import as_stored, upright
from pipeline.video.hdr import from_display, to_display
from pipeline.video.treat import treated_frames
from pipeline.video.types import VideoIndex


def decode_rgb(path: str, index: VideoIndex, ordinals: Sequence[int]) -> np.ndarray:
    """Frames at strictly increasing ordinals, as a viewer sees them.

    Returns:
        uint8 [n, h, w, 3], or uint16 over its full range when ``index.bit_depth`` is above 8; h and w are
        those of upright pictures. Only the groups of pictures that hold these frames are decoded.

    Raises:
        ValueError: ordinals are not strictly increasing or not inside the video.
        SourceError: as `decode_frames`, and ``unsupported_matrix``.
    """
    wanted = list(ordinals)
    if any(x >= y for x, y in pairwise(wanted)):
        raise ValueError("ordinals must be strictly increasing")
    stored = np.empty((0, index.geometry.height, index.geometry.width, 3))
    size = upright(stored, index.geometry.display_matrix).shape[1:]
    pictures = np.empty((len(wanted), *size), np.uint8 if index.bit_depth <= 8 else np.uint16)
    reformatter = VideoReformatter()
    row = 0
    for run in _runs(index, wanted):
        picks = set(run)
        for i, frame in enumerate(treated_frames(path, index, run[0], run[-1] + 1), run[0]):
            if i in picks:
                pictures[row] = model_picture(frame, index, reformatter)
                row += 1
    return pictures


def model_picture(
    frame: VideoFrame, index: VideoIndex, reformatter: VideoReformatter | None = None
) -> np.ndarray:
    """One treated frame as RGB [h, w, 3]: uint8, or uint16 when the video has more than 8 bits.

    Raises:
        SourceError: ``unsupported_matrix``.
    """
    rgb = frame_to_rgb(frame, index.colour, index.bit_depth, reformatter)
    if index.treatment.light_peak and rgb.dtype == np.uint16:
        rgb = to_display(rgb, index.colour.transfer, index.treatment.light_peak)
    return upright(rgb, index.geometry.display_matrix)


def stored_frame(
    rgb: np.ndarray, index: VideoIndex, pix_fmt: str, reformatter: VideoReformatter | None = None
) -> VideoFrame:
    """Inverse of `model_picture`, in any size: a frame in ``pix_fmt`` that is turned as the source's are.

    Raises:
        SourceError: ``unsupported_matrix``.
    """
    if index.treatment.light_peak and rgb.dtype == np.uint16:
        rgb = from_display(rgb, index.colour.transfer, index.treatment.light_peak)
    turned = np.ascontiguousarray(as_stored(rgb, index.geometry.display_matrix))
    return rgb_to_frame(turned, index.colour, pix_fmt, reformatter)


def _runs(index: VideoIndex, ordinals: list[int]) -> list[list[int]]:
    """Group ordinals so that frames of the same or the next group of pictures share one read."""
    runs: list[list[int]] = []
    previous_key = 0
    for ordinal in ordinals:
        key = 0 if index.treatment.linear else bisect_right(index.key_pts, index.pts[ordinal])
        if runs and key <= previous_key + 1:
            runs[-1].append(ordinal)
        else:
            runs.append([ordinal])
        previous_key = key
    return runs
