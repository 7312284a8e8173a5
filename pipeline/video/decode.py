"""Exact random access: frames by ordinal, each proven against the index before it is handed out.

A seek goes to a key packet and not behind it, and the pictures that follow are compared with the index by
timestamp and hash. At the first difference the seek is repeated one key frame early, and at the next
the file is read from its start, which is how the index itself was made.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.errors import SourceError
from pipeline.video.opening import DecodeCount, Decoder, decode_stream, demux, open_media
from pipeline.video.planes import hash64
from pipeline.video.probe import video_stream
from pipeline.video.types import VideoIndex

# Key frames to start before the one that should do. Few files need one more, and finding out costs little.
PREROLLS = (0, 1)
_SEEK_BACK_SECONDS = (Fraction(0), Fraction(1, 2), Fraction(1), Fraction(2), Fraction(4))
# The size was already accepted by the index; a picture of any other size fails its hash.
_ANY_SIZE = 2**31 - 1


def decode_frames(path: str, index: VideoIndex, a: int, b: int) -> Iterator[VideoFrame]:
    """Stored frames ``a <= ordinal < b`` in presentation order, each equal to what the index saw.

    Raises:
        ValueError: the range is not inside the video.
        SourceError: ``decode_mismatch`` with ``frame``: the file changed, or this machine decodes it
            differently; ``unreadable``.
    """
    if not 0 <= a <= b <= index.frames:
        raise ValueError(f"range [{a}, {b}) is outside a video of {index.frames} frames")
    if a == b:
        return
    at = a
    try:
        for preroll in PREROLLS:
            if at == b:
                return
            for frame in _after_seek(path, index, at, b, preroll):
                yield frame
                at += 1
        if at < b:
            yield from _from_start(path, index, at, b)
    except (FFmpegError, OSError) as error:
        raise SourceError(
            f"The source could no longer be read at frame {at} ({type(error).__name__}); check the file.",
            code="unreadable",
            frame=at,
        ) from error


def _after_seek(path: str, index: VideoIndex, a: int, b: int, preroll: int) -> Iterator[VideoFrame]:
    """Verified frames from ``a`` on, read from ``preroll`` key frames before the last one that is not later;
    stops early at the first frame that is not as indexed."""
    key = bisect_right(index.key_pts, index.pts[a]) - 1 - preroll
    if key <= 0 or index.treatment.linear:
        return
    with open_media(path, _ANY_SIZE) as container:
        stream = video_stream(container, index.stream)
        decoder = Decoder(stream, alpha=index.treatment.alpha)
        at = a
        for frame in _frames_from_key(container, stream, decoder, index.key_pts[key], index.key_dts[key]):
            if frame.pts is None or frame.pts > index.pts[at]:
                return
            if frame.pts < index.pts[at]:
                continue
            if hash64(frame) != index.frame_hashes[at]:
                return
            yield frame
            at += 1
            if at == b:
                return


def _frames_from_key(
    container: InputContainer, stream: VideoStream, decoder: Decoder, pts: int, dts: int
) -> Iterator[VideoFrame]:
    count = DecodeCount()
    second = 1 / Fraction(stream.time_base or 1)
    # Some demuxers seek by pts, MP4 since FFmpeg 4.4: with the DTS they stop a whole group of pictures early.
    # Others land behind the key frame that way, which the first packet tells.
    for target in (pts, *(dts - int(back * second) for back in _SEEK_BACK_SECONDS)):
        try:
            container.seek(target, stream=stream)
        except FFmpegError:
            return
        packets = demux(container, stream, count)
        first = next(packets, None)
        if first is not None and first.dts is not None and first.dts <= dts:
            for packet in chain([first], packets):
                yield from decoder.decode(packet, count)
            return


def _from_start(path: str, index: VideoIndex, a: int, b: int) -> Iterator[VideoFrame]:
    at = 0
    with open_media(path, _ANY_SIZE) as container:
        stream = video_stream(container, index.stream)
        decoder = Decoder(stream, alpha=index.treatment.alpha)
        for frame in decode_stream(container, stream, decoder, DecodeCount()):
            if at >= a:
                moved = frame.pts != index.pts[at] and not index.treatment.linear
                if moved or hash64(frame) != index.frame_hashes[at]:
                    raise _mismatch(at)
                yield frame
            at += 1
            if at == b:
                return
    raise _mismatch(at)


def _mismatch(ordinal: int) -> SourceError:
    return SourceError(
        f"Frame {ordinal} does not decode to the picture that was indexed; the source changed, or FFmpeg "
        "differs between machines. Delete the stored index and run again.",
        code="decode_mismatch",
        frame=ordinal,
    )
