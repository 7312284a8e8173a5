"""V4: whether copied streams hold the source's packets at the source's times."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pipeline.video.measured import ANY_SIZE
from pipeline.video.opening import DecodeCount, Decoder, decode_stream, open_media
from pipeline.video.types import Assembly


@dataclass(frozen=True)
class _Payload:
    """A copied stream summed up; ``start`` is the first packet's time in seconds."""

    kind: str
    packets: int
    digest: str
    start: Fraction


def sound_problems(path: str, source_path: str, assembly: Assembly, video_offset: Fraction) -> list[str]:
    """Packets and time of every copied stream against the source.

    ``video_offset``: seconds by which the first picture moved; everything else has to move alike.
    """
    problems = []
    exact = assembly.container in ("mp4", "mov")
    for kept, copy in assembly.copied:
        text = _is_mov_text(source_path, kept) and not _is_mov_text(path, copy)
        was, now = _payload(source_path, kept, text), _payload(path, copy, False)
        if was is None or now is None:
            problems.append(f"source stream {kept} is missing in the output")
            continue
        same = (was.packets, was.digest) == (now.packets, now.digest)
        # ADTS headers leave the packets on the way into MP4: then the sound itself is compared.
        if not same and not (was.kind == "audio" and _samples(source_path, kept) == _samples(path, copy)):
            problems.append(f"source stream {kept} ({was.packets} packets) differs from its copy "
                            f"({now.packets} packets)")  # fmt: skip
        drift = abs(now.start - was.start - video_offset)
        tolerance = Fraction(1, 10_000) if exact else Fraction(2, 1000)
        if was.kind in ("audio", "subtitle") and was.packets and drift > tolerance:
            problems.append(f"stream {copy} moved {float(drift * 1000):.3f} ms against the picture")
    return problems


def _is_mov_text(path: str, index: int) -> bool:
    with open_media(path, ANY_SIZE) as container:
        context = container.streams[index].codec_context if index < len(container.streams) else None
        return context is not None and context.codec.canonical_name == "mov_text"


def _payload(path: str, index: int, as_text: bool) -> _Payload | None:
    """``as_text``: only the text of MP4 subtitles counts, as Matroska stores it, and no pauses."""
    digest = hashlib.sha256()
    packets, start = 0, Fraction(0)
    with open_media(path, ANY_SIZE) as container:
        if index >= len(container.streams):
            return None
        stream: Any = container.streams[index]
        for packet in container.demux(stream):
            data = bytes(packet)
            if as_text and len(data) >= 2:
                data = data[2 : 2 + struct.unpack(">H", data[:2])[0]]
            if not data:
                continue
            if packets == 0 and packet.pts is not None:
                start = packet.pts * Fraction(packet.time_base)
            packets += 1
            digest.update(data)
        return _Payload(stream.type, packets, digest.hexdigest(), start)


def _samples(path: str, index: int) -> str:
    """Hash of the decoded samples of an audio stream."""
    digest = hashlib.sha256()
    count = DecodeCount()
    with open_media(path, ANY_SIZE) as container:
        stream: Any = container.streams[index]
        for frame in decode_stream(container, stream, Decoder(stream), count):
            sound: Any = frame
            digest.update(sound.to_ndarray().tobytes())
    return digest.hexdigest()
