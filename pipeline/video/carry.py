"""Streams that are not processed: which ones an output container takes, and their packets."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet

from pipeline.video.types import StreamSummary, VideoIndex

MUXERS = {"mp4": "mp4", "mov": "mov", "mkv": "matroska", "webm": "webm"}
_IMAGE_TYPES = {"png": "image/png", "mjpeg": "image/jpeg"}
# Written anew by the muxer, or about the old file only.
_STALE_TAGS = ("encoder", "major_brand", "minor_version", "compatible_brands", "duration", "vendor_id")
_STALE_PREFIXES = ("_statistics", "bps", "number_of_", "duration-")


class Carried:
    """One source stream that goes on in the output, packet by packet."""

    def __init__(self, source: Any, target: Any, text_from_mov: bool = False) -> None:
        self.source, self.target, self.text_from_mov = source, target, text_from_mov
        self.packets = 0
        self._waiting: list[Packet[Any]] = []
        self._dated = False

    def convert(self, packet: Packet[Any]) -> Packet[Any] | None:
        """The packet as the output stream wants it, or None for a pause between subtitles."""
        if self.text_from_mov:
            data = bytes(packet)
            if len(data) <= 2:
                return None
            text = Packet(data[2 : 2 + struct.unpack(">H", data[:2])[0]])
            text.pts, text.dts, text.duration = packet.pts, packet.pts, packet.duration
            text.time_base = packet.time_base
            packet = text
        packet.stream = self.target
        return packet


    def in_time(self, packet: Packet[Any]) -> Iterator[Packet[Any]]:
        """The packet with a decoding time, and those that waited for one.

        Matroska gives the first pictures of a stream with B-frames none: they get steps before the first
        that is known. Everywhere else a packet is decoded when it is shown.
        """
        if packet.dts is None and self.source.type == "video" and not self._dated:
            self._waiting.append(packet)
            return
        yield from self.rest(packet.dts, packet.duration or 1)
        self._dated = True
        packet.dts = packet.pts if packet.dts is None else packet.dts
        yield packet

    def rest(self, dts: int | None = None, step: int = 1) -> Iterator[Packet[Any]]:
        """Packets that still wait, decoded in steps before ``dts`` (None: when they are shown)."""
        waiting, self._waiting = self._waiting, []
        for left, packet in zip(range(len(waiting), 0, -1), waiting, strict=True):
            packet.dts = packet.pts if dts is None else dts - left * step
            yield packet


def carry_stream(
    source: InputContainer, out: OutputContainer, container: str, summary: StreamSummary, index: VideoIndex
) -> tuple[Carried | None, str | None]:
    """Add a stream like ``summary`` to the output.

    Returns:
        The stream to copy (None for attachments, which need no packets), and why it was dropped.
    """
    stream: Any = source.streams[summary.index]
    if summary.kind == "attachment":
        return None, _carry_attachment(stream, out, container, summary)
    if summary.attached_picture and container == "mkv":
        return None, _picture_as_attachment(source, stream, out, summary)
    reason = _refusal(summary, stream, container, index)
    if reason is not None:
        return None, _dropped(summary, reason)
    text_from_mov = summary.codec == "mov_text" and container == "mkv"
    try:
        target: Any = (
            out.add_mux_stream("subrip")
            if text_from_mov
            else out.add_stream_from_template(stream, opaque=True)
        )
    except (ValueError, FFmpegError):
        return None, _dropped(summary, f"{container} cannot carry it")
    target.metadata.update(clean_tags(stream.metadata))
    target.disposition = stream.disposition
    return Carried(stream, target, text_from_mov), None


def clean_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags without those that describe the old file's bytes."""
    return {
        key: value
        for key, value in tags.items()
        if key.lower() not in _STALE_TAGS and not key.lower().startswith(_STALE_PREFIXES)
    }


def carried_packets(
    source: InputContainer, carried: list[Carried], warnings: list[str]
) -> Iterator[Packet[Any]]:
    """Packets of the copied streams in file order; damage ends them with a warning."""
    if not carried:
        return
    by_index = {c.source.index: c for c in carried}
    packets = source.demux([c.source for c in carried])
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except FFmpegError as error:
            name = type(error).__name__
            warnings.append(f"copied_streams_end_early: the source could not be read on ({name})")
            break
        if packet.size == 0:
            continue
        stream = by_index[packet.stream_index]
        converted = stream.convert(packet)
        if converted is not None:
            stream.packets += 1
            yield from stream.in_time(converted)
    for stream in carried:
        yield from stream.rest()


def _refusal(summary: StreamSummary, stream: Any, container: str, index: VideoIndex) -> str | None:
    """A reason known beforehand; otherwise the muxer is asked on a scratch file."""
    if summary.kind not in ("video", "audio", "subtitle"):
        return f"{container} cannot carry it"
    if summary.codec is None:
        return "its codec is unknown"
    if summary.kind == "video" and not summary.attached_picture:
        return _second_video_refusal(container, index)
    if summary.codec == "mov_text" and container == "mkv":
        return None
    # The MP4 muxer takes the header of plain PCM and refuses its packets.
    if container == "mp4" and summary.codec.startswith("pcm_"):
        return "mp4 cannot carry plain PCM"
    return None if _muxer_takes(stream, container) else f"{container} cannot carry it"


def _second_video_refusal(container: str, index: VideoIndex) -> str | None:
    # Packets hidden by an edit list would become visible in a container without edit lists.
    if "mov" in index.container.split(",") and container not in ("mp4", "mov"):
        return f"a second video stream with an edit list cannot go into {container}"
    return None


def _muxer_takes(stream: Any, container: str) -> bool:
    """Write a header with this stream alone: some muxers refuse a stream only then."""
    try:
        with av.open(io.BytesIO(), "w", format=MUXERS[container]) as scratch:
            target = scratch.add_stream_from_template(stream, opaque=True)
            target.disposition = stream.disposition
            scratch.start_encoding()
    except (ValueError, FFmpegError, NotImplementedError):
        return False
    return True


def _carry_attachment(
    stream: Any, out: OutputContainer, container: str, summary: StreamSummary
) -> str | None:
    if container != "mkv":
        return _dropped(summary, f"{container} cannot carry it")
    mimetype = stream.metadata.get("mimetype", "application/octet-stream")
    name = stream.metadata.get("filename", f"attachment_{summary.index}")
    target = out.add_attachment(name, mimetype, bytes(stream.data))
    target.metadata.update({**stream.metadata, "filename": name, "mimetype": mimetype})
    return None


def _picture_as_attachment(
    source: InputContainer, stream: Any, out: OutputContainer, summary: StreamSummary
) -> str | None:
    mimetype = _IMAGE_TYPES.get(summary.codec or "")
    packet = next((p for p in source.demux(stream) if p.size), None)
    if mimetype is None or packet is None:
        return _dropped(summary, "mkv cannot carry it")
    extension = "png" if mimetype == "image/png" else "jpg"
    out.add_attachment(f"cover.{extension}", mimetype, bytes(packet))
    source.seek(0)
    return None


def _dropped(summary: StreamSummary, reason: str) -> str:
    return f"stream {summary.index} {summary.kind} {summary.codec or 'unknown'}: {reason}"


def packet_seconds(packet: Packet[Any]) -> Fraction:
    """Decode time of a packet in seconds, for interleaving."""
    time = packet.dts if packet.dts is not None else packet.pts
    return (time or 0) * Fraction(packet.time_base)
