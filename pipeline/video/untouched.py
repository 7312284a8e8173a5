"""What the model left alone keeps the source's own samples: they never go through RGB.

Conversion rounds, and cuts colours that RGB cannot show; where a picture came back as it went in, neither
is needed.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from pipeline.video.colour import convert_frame, scale_frame
from pipeline.video.types import Colour

#: A chroma sample and the pixels it shares a bicubic kernel with, on either side.
_REACH = 4


def keep_source_samples(made: VideoFrame, source: VideoFrame, same: np.ndarray) -> None:
    """Put the source's samples into ``made`` wherever the pixels around them are the ``same``.

    ``same``: bool [h, w], on the stored grid. Frames have equal size. Nothing happens when the two have
    different layouts, or one that is not planar.
    """
    if _plain(made.format.name) != _plain(source.format.name) or not same.any():
        return
    if len(made.planes) != len(made.format.components):
        return
    calm = cv2.erode(same.astype(np.uint8), np.ones((2 * _REACH + 1,) * 2, np.uint8), borderValue=1)
    for component in made.format.components:
        if component.is_alpha:
            continue
        target, origin = _samples(made, component.plane), _samples(source, component.plane)
        whole = target.shape == same.shape
        where = same if whole else _at_chroma_sites(calm, target.shape)
        target[where] = origin[where]


def keep_alpha(made: VideoFrame, source: VideoFrame, colour: Colour) -> None:
    """Give ``made`` the transparency of ``source``, scaled to its size. Both have an alpha plane."""
    source = convert_frame(source, colour, made.format.name)
    source = scale_frame(source, colour, made.width, made.height)
    plane = next(c.plane for c in made.format.components if c.is_alpha)
    _samples(made, plane)[:] = _samples(source, plane)


def has_alpha(pix_fmt: str) -> bool:
    """Whether pictures of this format carry transparency."""
    return any(c.is_alpha for c in VideoFormat(pix_fmt, 16, 16).components)


def _plain(pix_fmt: str) -> str:
    return pix_fmt.replace("yuvj", "yuv")


def _at_chroma_sites(calm: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """``calm`` for each chroma sample: subsampling takes the first of every two or four pixels."""
    down, across = (-(-full // part) for full, part in zip(calm.shape, shape, strict=True))
    picked: np.ndarray = calm[::down, ::across][: shape[0], : shape[1]] == 1
    return picked


def _samples(frame: VideoFrame, plane: int) -> np.ndarray:
    source: Any = frame.planes[plane]
    depth = max(c.bits for c in frame.format.components)
    kind = np.dtype(np.uint8 if depth <= 8 else "<u2")
    rows = np.frombuffer(source, kind).reshape(source.height, source.line_size // kind.itemsize)
    return rows[:, : source.width]
