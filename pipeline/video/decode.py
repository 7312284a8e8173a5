"""Exact random access: frames by ordinal, each proven against the index before it is handed out.

A seek goes to a key packet and not behind it, and the pictures that follow are compared with the index by
timestamp and hash. At the first difference the seek is repeated one key frame early, and at the next
the file is read from its start, which is how the index itself was made. A decoder that has just read the
frames before a range goes on where it is.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Generator, Hashable, Iterator
from fractions import Fraction
from functools import partial
from itertools import chain
from typing import Any

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.errors import SourceError
from pipeline.video.opening import DecodeCount, Decoder, decode_stream, demux, open_media
from pipeline.video.planes import hash64
from pipeline.video.probe import video_stream
from pipeline.video.types import VideoIndex

# Decoders that wait for the range after the one they have read, per thread: without them a file with one key
# frame would be read from its start for every chunk.
_KEPT = 2
_DECODERS = threading.local()
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
    at = a
    try:
        for way in _WAYS:
            if at == b:
                return
            frames = way(path, index, at)
            for frame in frames:
                at += 1
                if at == b:
                    _keep(path, index, b, frames)
                yield frame
                if at == b:
                    return
    except (FFmpegError, OSError) as error:
        raise SourceError(
            f"The source could no longer be read at frame {at} ({type(error).__name__}); check the file.",
            code="unreadable",
            frame=at,
        ) from error


def _go_on(path: str, index: VideoIndex, a: int) -> Generator[VideoFrame]:
    """Verified frames from ``a`` on from a decoder that an earlier range left behind, if that is nearer than
    the key frame before ``a``; nothing otherwise.

    It is handed on as it is: wrapped anew for every range, a thousand ranges would be a thousand calls deep.
    """
    at, frames = _kept().pop(_identity(path, index), (0, _nothing()))
    if not _key_ordinal(index, a) <= at <= a:
        frames.close()
    for _ in range(at, a):
        if next(frames, None) is None:
            break
    return frames


def _nothing() -> Generator[VideoFrame]:
    yield from ()


def _keep(path: str, index: VideoIndex, at: int, frames: Generator[VideoFrame]) -> None:
    """Leave a decoder that has given all frames before ``at`` to the range that comes next."""
    kept = _kept()
    if at < index.frames:
        kept[_identity(path, index)] = (at, frames)
    while len(kept) > _KEPT:
        _, (_, oldest) = kept.popitem(last=False)
        oldest.close()


def _kept() -> OrderedDict[Hashable, tuple[int, Generator[VideoFrame]]]:
    if not hasattr(_DECODERS, "kept"):
        _DECODERS.kept = OrderedDict()
    found: OrderedDict[Hashable, tuple[int, Generator[VideoFrame]]] = _DECODERS.kept
    return found


def _identity(path: str, index: VideoIndex) -> Hashable:
    """The file, not its name: another one may lie there the next time."""
    facts = os.stat(path)
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, index.stream, index.frame_hashes[:1]


def _key_ordinal(index: VideoIndex, a: int) -> int:
    """The frame at which decoding has to begin to see frame ``a``."""
    key = bisect_right(index.key_pts, index.pts[a]) - 1
    if key < 0 or index.treatment.linear:
        return 0
    return bisect_left(index.pts, index.key_pts[key])


def _after_seek(preroll: int, path: str, index: VideoIndex, a: int) -> Generator[VideoFrame]:
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
            if at == index.frames or frame.pts is None or frame.pts > index.pts[at]:
                return
            if frame.pts < index.pts[at]:
                continue
            if hash64(frame) != index.frame_hashes[at]:
                return
            yield frame
            at += 1


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
        if first is not None and _landed(first, pts, dts):
            for packet in chain([first], packets):
                yield from decoder.decode(packet, count)
            return


def _landed(first: Packet[Any], pts: int, dts: int) -> bool:
    """Whether a seek came out at the key packet or before it. After one, Matroska has no DTS to tell."""
    if first.dts is not None:
        return first.dts <= dts
    return first.pts is not None and first.pts <= pts


def _from_start(path: str, index: VideoIndex, a: int) -> Generator[VideoFrame]:
    """Verified frames from ``a`` on, read from the start of the file as the index was."""
    at = 0
    with open_media(path, _ANY_SIZE) as container:
        stream = video_stream(container, index.stream)
        decoder = Decoder(stream, alpha=index.treatment.alpha)
        for frame in decode_stream(container, stream, decoder, DecodeCount()):
            if at == index.frames:
                return
            if at >= a:
                moved = frame.pts != index.pts[at] and not index.treatment.linear
                if moved or hash64(frame) != index.frame_hashes[at]:
                    raise _mismatch(at)
                yield frame
            at += 1
    if at < index.frames:
        raise _mismatch(at)


# From the cheapest to the surest. Few files need a key frame more than one, and finding out costs little.
_WAYS = (_go_on, partial(_after_seek, 0), partial(_after_seek, 1), _from_start)


def _mismatch(ordinal: int) -> SourceError:
    return SourceError(
        f"Frame {ordinal} does not decode to the picture that was indexed; the source changed, or FFmpeg "
        "differs between machines. Delete the stored index and run again.",
        code="decode_mismatch",
        frame=ordinal,
    )
