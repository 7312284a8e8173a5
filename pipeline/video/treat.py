"""Decoded frames after the treatment that their index settled: what the rest of the pipeline calls frames."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from pipeline.video.colour import convert_frame, scale_frame
from pipeline.video.decode import decode_frames
from pipeline.video.fields import HALO, deinterlaced
from pipeline.video.turn import turned_frame
from pipeline.video.types import VideoIndex


def treated_frames(path: str, index: VideoIndex, a: int, b: int) -> Iterator[VideoFrame]:
    """Frames ``a <= ordinal < b`` in the first frame's size and format, whole and turned if so settled.

    A frame does not depend on the range it was read in. Raises as `decode_frames` does.
    """
    frames = _whole(path, index, a, b)
    matrix = index.treatment.turn
    if matrix is None:
        yield from frames
        return
    reformatter = VideoReformatter()
    for frame in frames:
        yield turned_frame(frame, index.colour, matrix, reformatter)


def _whole(path: str, index: VideoIndex, a: int, b: int) -> Iterator[VideoFrame]:
    how = index.treatment.deinterlace
    if not how or a == b:
        yield from _one_size(decode_frames(path, index, a, b), index)
        return
    first, last = max(0, a - HALO), min(index.frames, b + HALO)
    frames = deinterlaced(_one_size(decode_frames(path, index, first, last), index), how)
    yield from islice(frames, a - first, b - first)


def _one_size(frames: Iterator[VideoFrame], index: VideoIndex) -> Iterator[VideoFrame]:
    if index.treatment.scale is None:
        yield from frames
        return
    width, height, pix_fmt = index.treatment.scale
    reformatter = VideoReformatter()
    for frame in frames:
        plain = convert_frame(frame, index.colour, pix_fmt, reformatter)
        yield scale_frame(plain, index.colour, width, height, reformatter)
