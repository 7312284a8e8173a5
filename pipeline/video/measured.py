"""What decoding a finished file yields: frames, times, digests, errors."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.errors import SourceError
from pipeline.video.integers import Hashes, Integers
from pipeline.video.opening import DecodeCount, Decoder, decode_stream, has_hidden_alpha, open_media
from pipeline.video.planes import hash64, plane_rows
from pipeline.video.probe import video_stream
from pipeline.video.types import Measured

ANY_SIZE = 2**31 - 1

#: Is shown every decoded frame in presentation order.
Watcher = Callable[[VideoFrame], None]


def measure(path: str, stream: int | None = None, watchers: Sequence[Watcher] = ()) -> Measured:
    """Decode a video stream (by default the first that is not cover art) and sum it up.

    Raises:
        SourceError: ``unreadable``.
    """
    try:
        with open_media(path, ANY_SIZE) as container:
            return _measure(container, main_stream(container, stream), watchers)
    except (FFmpegError, OSError, StopIteration) as error:
        raise SourceError(
            f"{path} cannot be decoded ({type(error).__name__}); it is damaged or not a video.",
            code="unreadable",
        ) from error


def main_stream(container: InputContainer, stream: int | None) -> VideoStream:
    """The stream of this index, or the first video stream that is no cover art (StopIteration if none)."""
    if stream is not None:
        return video_stream(container, stream)
    return next(s for s in container.streams.video if not s.disposition & Disposition.attached_pic)


def _measure(container: InputContainer, stream: VideoStream, watchers: Sequence[Watcher]) -> Measured:
    decoder = Decoder(stream, alpha=has_hidden_alpha(stream))
    count = DecodeCount()
    whole = hashlib.md5(usedforsecurity=False)
    times = hashlib.sha256()
    hashes, pts = array("Q"), array("q")
    last = 0
    for frame in decode_stream(container, stream, decoder, count):
        for rows in plane_rows(frame):
            data: Any = rows if rows.flags.c_contiguous else rows.tobytes()
            whole.update(data)
        hashes.append(hash64(frame))
        time = frame.pts if frame.pts is not None else -1
        times.update(f",{time}".encode() if pts else str(time).encode())
        pts.append(time)
        last = int(frame.duration or 0)
        for watch in watchers:
            watch(frame)
    return Measured(
        frames=len(pts),
        frames_md5=whole.hexdigest(),
        frame_hashes=Hashes(hashes),
        pts=Integers(pts),
        pts_sha256=times.hexdigest(),
        time_base=Fraction(stream.time_base or 1),
        decode_errors=count.errors + count.corrupt,
        last_duration=last,
    )
