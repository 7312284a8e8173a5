"""Colour tags, and the exact way between a decoded picture and RGB.

Every conversion names matrix and range on both sides: left to itself swscale takes BT.601 limited
range for any untagged picture and darkens a little with each generation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from pipeline.errors import SourceError
from pipeline.video.colour_matrix import plain_format, planes_to_rgb, rgb_to_planes
from pipeline.video.types import Colour, Origin

LIMITED, FULL = 1, 2
UNSPECIFIED = 2
MATRIX_709, MATRIX_470BG, MATRIX_170M = 1, 5, 6

# AVCOL_SPC_* -> SWS_CS_*: swscale has one table for BT.470BG and SMPTE 170M.
_SWS_TABLE = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}

EXACT = int(
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.BITEXACT
)


def resolve_colour(tags: tuple[int, int, int, int], pix_fmt: str, width: int, height: int) -> Colour:
    """Settle matrix and range, and say which of them the file named itself.

    ``tags``: AVCOL_* integers (range, matrix, primaries, transfer). An unspecified range is limited;
    an unspecified matrix is BT.709 from 1280x720 on (either side), BT.601 below. Primaries and
    transfer are never invented.
    """
    tag_range, matrix, primaries, transfer = tags
    range_origin: Origin = "source"
    matrix_origin: Origin = "source"
    if pix_fmt.startswith("yuvj"):
        tag_range = FULL
    elif tag_range not in (LIMITED, FULL):
        tag_range, range_origin = LIMITED, "assumed"
    # Matrix 0 says "RGB"; pictures of RGB formats still need a matrix for the YUV that is written.
    if matrix in (0, UNSPECIFIED, 3):
        large = height >= 720 or width >= 1280
        matrix, matrix_origin = (MATRIX_709 if large else MATRIX_170M), "assumed"
    return Colour(
        matrix=matrix,
        range=tag_range,
        primaries=primaries or UNSPECIFIED,
        transfer=transfer or UNSPECIFIED,
        matrix_origin=matrix_origin,
        range_origin=range_origin,
    )


def frame_to_rgb(
    frame: VideoFrame, colour: Colour, bit_depth: int, reformatter: VideoReformatter | None = None
) -> np.ndarray:
    """Full-range RGB [h, w, 3] of a decoded frame: uint8, or uint16 when ``bit_depth`` is above 8.

    Raises:
        SourceError: ``unsupported_matrix``.
    """
    matrix = _sws_matrix(colour)
    reformatter = reformatter or VideoReformatter()
    if bit_depth > 8 or _is_full_yuv(frame.format, colour):
        plain = convert_frame(frame, colour, plain_format(frame.format.name), reformatter)
        # Grey has no limited range in FFmpeg.
        full = colour.range == FULL or len(frame.format.components) < 3
        return planes_to_rgb(plain, colour.matrix, full)
    rgb = reformatter.reformat(
        frame,
        format="rgb24",
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=FULL if frame.format.is_rgb else colour.range,
        dst_color_range=FULL,
        interpolation=EXACT,
        threads=1,
    )
    return np.asarray(rgb.to_ndarray())


def rgb_to_frame(
    rgb: np.ndarray, colour: Colour, pix_fmt: str, reformatter: VideoReformatter | None = None
) -> VideoFrame:
    """A picture in ``pix_fmt`` from full-range RGB uint8 or uint16 [h, w, 3].

    Raises:
        SourceError: ``unsupported_matrix``.
    """
    _sws_matrix(colour)
    target = VideoFrame(16, 16, pix_fmt).format
    if max(c.bits for c in target.components) > 8 or _is_full_yuv(target, colour):
        full = colour.range == FULL or len(target.components) < 3
        plain = rgb_to_planes(rgb, plain_format(pix_fmt), colour.matrix, full)
        return convert_frame(plain, colour, pix_fmt, reformatter)
    if rgb.dtype == np.uint16:
        rgb = np.rint(rgb / np.float32(257)).astype(np.uint8)
    source = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
    return convert_frame(source, colour, pix_fmt, reformatter)


def convert_frame(
    frame: VideoFrame, colour: Colour, pix_fmt: str, reformatter: VideoReformatter | None = None
) -> VideoFrame:
    """The same picture in another pixel format, in the file's own matrix and range.

    Raises:
        SourceError: ``unsupported_matrix``.
    """
    if frame.format.name == pix_fmt:
        return frame
    matrix = _sws_matrix(colour)
    target: Any = VideoFrame(16, 16, pix_fmt).format
    return (reformatter or VideoReformatter()).reformat(
        frame,
        format=pix_fmt,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=FULL if frame.format.is_rgb else colour.range,
        dst_color_range=FULL if target.is_rgb else colour.range,
        interpolation=EXACT,
        threads=1,
    )


def scale_frame(
    frame: VideoFrame, colour: Colour, width: int, height: int, reformatter: VideoReformatter | None = None
) -> VideoFrame:
    """The same picture in another size (bicubic), its format, matrix and range untouched.

    Raises:
        SourceError: ``unsupported_matrix``.
    """
    if (frame.width, frame.height) == (width, height):
        return frame
    matrix = _sws_matrix(colour)
    return (reformatter or VideoReformatter()).reformat(
        frame,
        width=width,
        height=height,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=colour.range,
        dst_color_range=colour.range,
        interpolation=EXACT,
        threads=1,
    )


def _is_full_yuv(layout: VideoFormat, colour: Colour) -> bool:
    return colour.range == FULL and len(layout.components) >= 3 and not layout.is_rgb


def _sws_matrix(colour: Colour) -> int:
    if colour.matrix not in _SWS_TABLE:
        raise SourceError(
            f"Colour matrix {colour.matrix} cannot be converted to RGB; convert the file to "
            "BT.709 or BT.2020 non-constant luminance first.",
            code="unsupported_matrix",
            matrix=colour.matrix,
        )
    return _SWS_TABLE[colour.matrix]
