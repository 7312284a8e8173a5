"""Turning stored pictures, plane by plane, so that no display matrix is needed any more."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from pipeline.video.colour import convert_frame
from pipeline.video.colour_matrix import plain_format
from pipeline.video.geometry import as_upright_size, upright
from pipeline.video.types import Colour, Geometry


def turned_geometry(stored: Geometry) -> Geometry:
    """Size and aspect of the turned pictures; the display matrix is used up."""
    width, height = as_upright_size(stored.width, stored.height, stored.display_matrix)
    aspect = stored.sample_aspect_ratio
    swapped = (width, height) != (stored.width, stored.height)
    return Geometry(width, height, 1 / aspect if swapped else aspect, None)


def turned_format(pix_fmt: str) -> str:
    """The format of turned pictures: their own, or one without subsampling where that is not the same along
    both axes or planes are mixed."""
    layout = VideoFormat(pix_fmt, 16, 16)
    sides = {(c.width, c.height) for c in layout.components}
    planar = len({c.plane for c in layout.components}) == len(layout.components)
    return pix_fmt if planar and all(w == h for w, h in sides) else plain_format(pix_fmt)


def turned_frame(
    frame: VideoFrame, colour: Colour, matrix: tuple[int, ...], reformatter: VideoReformatter | None = None
) -> VideoFrame:
    """A decoded frame as a viewer sees it, samples unchanged but for a change of format."""
    source = convert_frame(frame, colour, turned_format(frame.format.name), reformatter)
    width, height = as_upright_size(source.width, source.height, matrix)
    made = VideoFrame(width, height, source.format.name)
    for target, origin in zip(made.planes, source.planes, strict=True):
        item = 2 if max(c.bits for c in source.format.components) > 8 else 1
        samples = _samples(origin, item)
        _samples(target, item)[:] = upright(samples[..., None], matrix)[..., 0]
    return made


def _samples(plane: Any, item: int) -> np.ndarray:
    rows = np.frombuffer(plane, f"<u{item}").reshape(plane.height, plane.line_size // item)
    return rows[:, : plane.width]
