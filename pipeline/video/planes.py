"""The bytes of a decoded picture: rows without padding, their hashes, and clean copies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from xxhash import xxh3_64

from pipeline.errors import SourceError


def row_bytes(frame: VideoFrame, plane: int) -> int:
    """Number of meaningful bytes in one row of a plane."""
    layout = frame.format
    width = frame.planes[plane].width
    if len(frame.planes) == 1:
        return int((width * layout.padded_bits_per_pixel + 7) // 8)
    parts = [c for c in layout.components if c.plane == plane]
    return sum(width * ((c.bits + 7) // 8) for c in parts)


def plane_rows(frame: VideoFrame) -> Iterator[np.ndarray]:
    """Each plane as uint8 [rows, bytes], a view without the padding FFmpeg adds to rows.

    Raises:
        SourceError: ``unsupported_layout`` for pictures stored bottom row first.
    """
    for i, plane in enumerate(frame.planes):
        yield _rows(plane)[:, : row_bytes(frame, i)]


def hash64(frame: VideoFrame) -> int:
    """64-bit XXH3 hash of all planes: names the decoded picture in the index.

    It guards against wrong pictures, not against forgers: a cryptographic hash takes as long as decoding.
    """
    digest = xxh3_64()
    for rows in plane_rows(frame):
        # Rows without padding are hashed where they lie.
        data: Any = rows if rows.flags.c_contiguous else rows.tobytes()
        digest.update(data)
    return int(digest.intdigest())


def plane_bytes(frame: VideoFrame) -> bytes:
    """All planes, one after another, without padding."""
    return b"".join(rows.tobytes() for rows in plane_rows(frame))


def clean_copy(frame: VideoFrame, pix_fmt: str) -> VideoFrame:
    """A new frame with the same planes and nothing else.

    Decoded frames carry picture types and side data which change an encoder's decisions.
    ``pix_fmt`` has the same memory layout as the frame's own format (``yuvj420p``/``yuv420p``).
    """
    copy = VideoFrame(frame.width, frame.height, pix_fmt)
    for i, plane in enumerate(copy.planes):
        width = row_bytes(frame, i)
        target = _rows(plane)
        target[:, :width] = _rows(frame.planes[i])[:, :width]
        # An encoder may read into the padding of odd sizes, so it must not hold random memory.
        target[:, width:] = 0
    return copy


def _rows(plane: VideoPlane) -> np.ndarray:
    if plane.line_size <= 0:
        raise SourceError(
            "The picture is stored bottom row first, which is not supported; "
            "re-encode the file once with a common codec.",
            code="unsupported_layout",
        )
    buffer: Any = plane
    return np.frombuffer(buffer, np.uint8).reshape(plane.height, plane.line_size)
