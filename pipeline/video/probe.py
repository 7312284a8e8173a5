"""Look at a file before decoding it: what is it, and must it be refused?"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from fractions import Fraction
from typing import Any, NoReturn

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from pipeline.errors import SourceError
from pipeline.settings import Limits, VideoPolicy
from pipeline.video.colour import resolve_colour
from pipeline.video.opening import ELEMENTARY_DEMUXERS, STILL_IMAGE_DEMUXERS, has_hidden_alpha, open_media
from pipeline.video.types import Geometry, Probe, StreamSummary

# Enough to meet the encryption record of the first sample in every layout seen.
_PACKETS_TO_LOOK_AT = 8


def probe(path: str, uri: str, limits: Limits, policy: VideoPolicy | None = None) -> Probe:
    """Read the header and the first packets of a local file; nothing is decoded.

    Args and errors as `open_probed`.
    """
    container, facts, _ = open_probed(path, uri, limits, policy or VideoPolicy())
    container.close()
    return facts


def open_probed(
    path: str, uri: str, limits: Limits, policy: VideoPolicy
) -> tuple[InputContainer, Probe, list[Packet[Any]]]:
    """Open a local file and look at its header and first packets.

    Args:
        path: local file. ``uri`` is the name the user knows it by, for messages.
        limits: refusal limits for streams, pixels, seconds and, where the header lists them, frames.
        policy: ``assume_fps`` lets streams without times in, ``partial`` files that were cut off.

    Returns:
        The open container, to be closed by the caller; what was seen; and the packets that were read.

    Raises:
        SourceError: with code ``empty``, ``unreadable``, ``no_moov``, ``not_a_video``, ``still_image``,
            ``no_video_stream``, ``no_timestamps``, ``encrypted``, ``no_frames``, ``too_many_pixels``,
            ``too_many_frames``, ``too_many_streams``, ``too_long``, ``truncated``, ``unsupported_codec``.
    """
    _check_size(path, uri)
    with ExitStack() as opened:
        try:
            container = opened.enter_context(open_media(path, limits.max_pixels))
            facts, packets = _probe_open(container, uri, limits, policy)
        except SourceError:
            raise
        except (FFmpegError, OSError, ValueError) as error:
            if _is_mp4_without_moov(path):
                _refuse(uri, "no_moov", "is an MP4 whose index (moov) is missing, so it was cut off")
            _refuse(uri, "not_a_video", f"is not a video file that can be read ({type(error).__name__}); "
                    "check that the download is complete")  # fmt: skip
        opened.pop_all()
    return container, facts, packets


def video_stream(container: InputContainer, index: int) -> VideoStream:
    """The stream with this index, as a video stream."""
    stream: Any = container.streams[index]
    return stream


def _check_size(path: str, uri: str) -> None:
    try:
        size = os.path.getsize(path)
    except OSError as error:
        _refuse(uri, "unreadable", f"cannot be read ({error.strerror}); check the path and its permissions")
    if size == 0:
        _refuse(uri, "empty", "has no bytes; upload it again")


def _probe_open(
    container: InputContainer, uri: str, limits: Limits, policy: VideoPolicy
) -> tuple[Probe, list[Packet[Any]]]:
    names = set(container.format.name.split(","))
    if names & set(STILL_IMAGE_DEMUXERS):
        _refuse(uri, "still_image", "is a still image, not a video; remove it from the catalog")
    if len(container.streams) > limits.max_streams:
        _refuse(uri, "too_many_streams", f"has {len(container.streams)} streams, more than "
                f"limits.max_streams = {limits.max_streams}; raise the limit or remove some")  # fmt: skip
    streams = tuple(_summary(s) for s in container.streams)
    videos = [s for s in streams if s.kind == "video" and not s.attached_picture]
    if not videos:
        _refuse(uri, "no_video_stream", "has no video stream (cover art does not count)")
    if names & set(ELEMENTARY_DEMUXERS) and policy.assume_fps is None:
        _refuse(uri, "no_timestamps", "is a raw stream without timestamps; wrap it into MP4 or MKV first, or "
                "give its rate as video.assume_fps")  # fmt: skip
    stream = video_stream(container, videos[0].index)
    packets = _check_stream(container, stream, uri, limits)
    if "mov" in names and len(stream.index_entries) > limits.max_frames:
        _refuse(uri, "too_many_frames", f"lists {len(stream.index_entries)} frames, more than "
                f"limits.max_frames = {limits.max_frames}; raise the limit or cut the video")  # fmt: skip
    lost = _lost_samples(container, stream)
    if lost and not policy.partial:
        _refuse(uri, "truncated", f"is cut off: {lost} of its {len(stream.index_entries)} frames lie beyond "
                "its end; fetch it again, or process what is there with --allow-partial")  # fmt: skip
    return _describe(container, stream, streams, videos, lost), packets


def _check_stream(
    container: InputContainer, stream: VideoStream, uri: str, limits: Limits
) -> list[Packet[Any]]:
    if stream.codec_context is None:
        _refuse(uri, "unsupported_codec", "uses a video codec that this FFmpeg cannot decode")
    pixels = stream.codec_context.width * stream.codec_context.height
    if pixels == 0:
        # FFmpeg blanks the size of pictures above the decoder's own limit, which we set to ours.
        _refuse(uri, "too_many_pixels", f"has no readable frame size, or more pixels per frame than "
                f"limits.max_pixels = {limits.max_pixels}; raise the limit or shrink the video")  # fmt: skip
    if pixels > limits.max_pixels:
        _refuse(uri, "too_many_pixels", f"has {pixels} pixels per frame, more than limits.max_pixels = "
                f"{limits.max_pixels}; raise the limit or scale the video down")  # fmt: skip
    seconds = _seconds(container, stream)
    if seconds is not None and seconds > Fraction(limits.max_seconds):
        _refuse(uri, "too_long", f"lasts {round(seconds)} s, more than limits.max_seconds = "
                f"{limits.max_seconds:g}; raise the limit or cut the video")  # fmt: skip
    return _check_packets(container, stream, uri)


def _lost_samples(container: InputContainer, stream: VideoStream) -> int:
    """Samples that an MP4 lists but that lie beyond its end: a cut file is known before it is decoded.

    The header's frame count says less: an edit list may leave samples out.
    """
    if "mov" not in container.format.name.split(","):
        return 0
    return sum(entry.pos + entry.size > container.size for entry in stream.index_entries)


def _check_packets(container: InputContainer, stream: VideoStream, uri: str) -> list[Packet[Any]]:
    packets: list[Packet[Any]] = []
    # Damage is judged by the full pass, which counts it.
    with suppress(FFmpegError):
        for packet in container.demux(stream):
            packets.append(packet)
            if any(side.data_type.startswith("encryption") for side in packet.iter_sidedata()):
                _refuse(uri, "encrypted", "is encrypted; decrypt it first")
            if packet.size == 0 or len(packets) == _PACKETS_TO_LOOK_AT:
                break
    if not packets or packets[0].size == 0:
        _refuse(uri, "no_frames", "has a video stream without any frame; upload it again")
    return packets


def _describe(
    container: InputContainer,
    stream: VideoStream,
    streams: tuple[StreamSummary, ...],
    videos: list[StreamSummary],
    lost: int,
) -> Probe:
    context = stream.codec_context
    pix_fmt = context.pix_fmt or "unknown"
    tags = (context.color_range, context.colorspace, context.color_primaries, context.color_trc)
    warnings = []
    if len(videos) > 1:
        others = ", ".join(str(s.index) for s in videos[1:])
        warnings.append(f"multiple_video_streams: stream {stream.index} is processed, not {others}")
    return Probe(
        container=container.format.name,
        streams=streams,
        stream=stream.index,
        codec=context.codec.canonical_name,
        pix_fmt=pix_fmt,
        bit_depth=max((c.bits for c in context.format.components), default=8) if context.format else 8,
        time_base=Fraction(stream.time_base or 1),
        average_rate=Fraction(stream.average_rate or stream.guessed_rate or 0),
        field_order=int(context.field_order),
        colour=resolve_colour(tags, pix_fmt, context.width, context.height),
        geometry=Geometry(context.width, context.height, _sar(stream), None),
        warnings=tuple(warnings),
        hidden_alpha=has_hidden_alpha(stream),
        samples_lost=lost,
    )


def _summary(stream: Any) -> StreamSummary:
    attached = bool(stream.disposition & Disposition.attached_pic)
    context = stream.codec_context
    codec = context.codec.canonical_name if context is not None else getattr(stream, "name", None)
    return StreamSummary(stream.index, stream.type, codec, attached)


def _sar(stream: VideoStream) -> Fraction:
    ratio = stream.sample_aspect_ratio
    return Fraction(ratio) if ratio else Fraction(1)


def _seconds(container: InputContainer, stream: VideoStream) -> Fraction | None:
    if stream.duration is not None and stream.time_base is not None:
        return stream.duration * Fraction(stream.time_base)
    return None if container.duration is None else Fraction(container.duration, 1_000_000)


def _is_mp4_without_moov(path: str) -> bool:
    """Walk the top-level boxes (ISO 14496-12, 4.2); an ``ftyp`` but no ``moov`` means a cut file."""
    found: set[bytes] = set()
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        at = 0
        while at + 8 <= size and len(found) < 64:
            file.seek(at)
            header = file.read(16)
            length, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            found.add(kind)
            if length < 8:
                break
            at += length
    return b"ftyp" in found and b"moov" not in found


def _refuse(uri: str, code: str, why: str) -> NoReturn:
    raise SourceError(f"{uri} {why}.", code=code, uri=uri)
