"""Read a finished file again and compare it with what it was meant to be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from typing import Any

from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.errors import SourceError
from pipeline.video.colour import UNSPECIFIED
from pipeline.video.encoders import HDR_ENCODERS
from pipeline.video.geometry import is_rotation, scaled_matrix, scaled_sar
from pipeline.video.opening import DecodeCount, Decoder, decode_stream, has_hidden_alpha, open_media
from pipeline.video.planes import plane_bytes
from pipeline.video.probe import video_stream
from pipeline.video.side_data import read_first_frame
from pipeline.video.types import Assembly, Hdr, Measured, Segment, VideoIndex

_ANY_SIZE = 2**31 - 1
_HALF_MILLISECOND = Fraction(1, 2000)


def measure(path: str, stream: int | None = None) -> Measured:
    """Decode a video stream (by default the first that is not cover art) and sum it up.

    Raises:
        SourceError: ``unreadable``.
    """
    try:
        with open_media(path, _ANY_SIZE) as container:
            return _measure(container, _choose(container, stream))[0]
    except (FFmpegError, OSError, StopIteration) as error:
        raise SourceError(
            f"{path} cannot be decoded ({type(error).__name__}); it is damaged or not a video.",
            code="unreadable",
        ) from error


def verify_output(
    path: str, source_path: str, index: VideoIndex, segments: Sequence[Segment], assembly: Assembly
) -> tuple[Measured, tuple[str, ...]]:
    """Check a finished file: frames, times, pictures, errors, tags, geometry and copied streams.

    Returns:
        What was measured, and one sentence per problem; empty means the file may be published.

    Raises:
        SourceError: ``unreadable``.
    """
    try:
        with open_media(path, _ANY_SIZE) as out:
            stream = _choose(out, assembly.stream)
            measured, first = _measure(out, stream)
            problems = [
                *_picture_problems(measured, segments),
                *_time_problems(measured, index, assembly),
                *_tag_problems(stream, first, index, segments, assembly),
            ]
        if measured.frames:
            offset = measured.pts[0] * measured.time_base - index.pts[0] * index.time_base
            problems += _copied_problems(path, source_path, assembly, offset)
        problems += _chapter_problems(path, source_path)
    except (FFmpegError, OSError, StopIteration) as error:
        raise SourceError(
            f"The finished file cannot be read again ({type(error).__name__}); run the job again.",
            code="unreadable",
        ) from error
    return measured, tuple(problems)


def _choose(container: InputContainer, stream: int | None) -> VideoStream:
    if stream is not None:
        return video_stream(container, stream)
    return next(s for s in container.streams.video if not s.disposition & Disposition.attached_pic)


def _measure(container: InputContainer, stream: VideoStream) -> tuple[Measured, VideoFrame | None]:
    count = DecodeCount()
    whole = hashlib.md5(usedforsecurity=False)
    digests: list[str] = []
    pts: list[int] = []
    first = None
    decoder = Decoder(stream, alpha=has_hidden_alpha(stream))
    for frame in decode_stream(container, stream, decoder, count):
        data = plane_bytes(frame)
        whole.update(data)
        digests.append(hashlib.md5(data, usedforsecurity=False).hexdigest())
        pts.append(frame.pts if frame.pts is not None else -1)
        first = first or frame
    measured = Measured(
        frames=len(pts),
        frames_md5=whole.hexdigest(),
        frame_md5=tuple(digests),
        pts=tuple(pts),
        pts_sha256=hashlib.sha256(",".join(map(str, pts)).encode()).hexdigest(),
        time_base=Fraction(stream.time_base or 1),
        decode_errors=count.errors + count.corrupt,
    )
    return measured, first


def _picture_problems(measured: Measured, segments: Sequence[Segment]) -> Iterator[str]:
    if measured.decode_errors:
        yield f"{measured.decode_errors} decode errors in the output"
    planned = list(chain.from_iterable(s.frame_md5 for s in segments))
    if measured.frames != len(planned):
        yield f"{measured.frames} frames in the output, {len(planned)} were encoded"
    wrong = [i for i, (a, b) in enumerate(zip(measured.frame_md5, planned, strict=False)) if a != b]
    if wrong:
        yield f"{len(wrong)} frames decode to other pictures than their segments, first frame {wrong[0]}"


def _time_problems(measured: Measured, index: VideoIndex, assembly: Assembly) -> Iterator[str]:
    if measured.frames != index.frames:
        yield f"{measured.frames} frames in the output, {index.frames} in the source"
        return
    exact = assembly.container in ("mp4", "mov")
    if any(a >= b for a, b in pairwise(measured.pts)):
        yield "frame times of the output do not increase"
    planned = [p * index.time_base + assembly.shift for p in index.pts]
    found = [p * measured.time_base for p in measured.pts]
    # Matroska cannot hold times before zero (audio priming), so its muxer may move all streams alike.
    offset = Fraction(0) if exact else found[0] - planned[0]
    tolerance = Fraction(0) if exact else 2 * _HALF_MILLISECOND
    worst = max(abs(a - b - offset) for a, b in zip(found, planned, strict=True))
    if worst > tolerance:
        yield f"frame times differ from the source by up to {float(worst * 1000):.3f} ms"


def _tag_problems(
    stream: VideoStream,
    first: VideoFrame | None,
    index: VideoIndex,
    segments: Sequence[Segment],
    assembly: Assembly,
) -> Iterator[str]:
    context, colour = stream.codec_context, index.colour
    found = (context.color_range, context.colorspace, context.color_primaries, context.color_trc)
    planned = (colour.range, colour.matrix, colour.primaries, colour.transfer)
    for name, was, now in zip(("range", "matrix", "primaries", "transfer"), planned, found, strict=True):
        if was != now and not (was == UNSPECIFIED and now == 0):
            yield f"colour {name} is tagged {now}, planned {was}"
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    wanted = scaled_sar(index.geometry, segments[0].width, segments[0].height)
    if abs(aspect - wanted) > wanted / 200:
        yield f"sample aspect ratio is {aspect}, planned {wanted}"
    if first is None:
        return
    facts = read_first_frame(first)
    matrix = scaled_matrix(index.geometry, segments[0].width, segments[0].height)
    if facts.display_matrix != matrix and (assembly.container in ("mp4", "mov") or is_rotation(matrix)):
        yield f"display matrix is {facts.display_matrix}, planned {matrix}"
    if segments[0].codec in HDR_ENCODERS and not _same_hdr(index.hdr, facts.hdr):
        yield "static HDR metadata differs from the source"


def _same_hdr(planned: Hdr | None, found: Hdr | None) -> bool:
    if planned is None:
        return True
    if found is None or planned.content_light != found.content_light:
        return False
    # Encoders count in 1/50000 and 1/10000; SVT-AV1 in binary fractions near those.
    pairs = zip(planned.mastering or (), found.mastering or (), strict=False)
    values = ((Fraction(*a), Fraction(*b)) for a, b in pairs)
    close = all(abs(a - b) <= Fraction(1, 5000) * max(Fraction(1), a) for a, b in values)
    return close and bool(planned.mastering) == bool(found.mastering)


@dataclass(frozen=True)
class _Payload:
    """A copied stream summed up; ``start`` is the first packet's time in seconds."""

    kind: str
    codec: str
    language: str | None
    disposition: int
    packets: int
    digest: str
    start: Fraction


def _copied_problems(path: str, source_path: str, assembly: Assembly, video_offset: Fraction) -> list[str]:
    """Packets, language and time of every copied stream against the source."""
    problems = []
    for kept, copy in assembly.copied:
        if not _has_stream(path, copy):
            problems.append(f"source stream {kept} is missing in the output")
            continue
        was, now = _payload(source_path, kept), _payload(path, copy)
        if _language(was) != _language(now):
            problems.append(f"stream {copy} has language {now.language}, its source {was.language}")
        # MP4 has to enable one track of each kind, even if the source marked none as default.
        if was.disposition != now.disposition and was.disposition | Disposition.default != now.disposition:
            problems.append(f"stream {copy} has disposition {now.disposition}, its source {was.disposition}")
        if was.codec != now.codec:
            continue  # A subtitle that was rewritten for another container.
        same = (was.packets, was.digest) == (now.packets, now.digest)
        # ADTS headers leave the packets on the way into MP4: then the sound itself is compared.
        if not same and not (was.kind == "audio" and _sound(source_path, kept) == _sound(path, copy)):
            problems.append(f"source stream {kept} ({was.packets} packets) differs from its copy "
                            f"({now.packets} packets)")  # fmt: skip
        drift = abs(now.start - was.start - video_offset)
        tolerance = Fraction(1, 10_000) if assembly.container in ("mp4", "mov") else Fraction(2, 1000)
        if was.kind == "audio" and drift > tolerance:
            problems.append(f"stream {copy} moved {float(drift * 1000):.3f} ms against the picture")
    return problems


def _has_stream(path: str, index: int) -> bool:
    with open_media(path, _ANY_SIZE) as container:
        return index < len(container.streams)


def _payload(path: str, index: int) -> _Payload:
    digest = hashlib.sha256()
    packets, start = 0, Fraction(0)
    with open_media(path, _ANY_SIZE) as container:
        stream: Any = container.streams[index]
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            if packets == 0 and packet.pts is not None:
                start = packet.pts * Fraction(packet.time_base)
            packets += 1
            digest.update(bytes(packet))
        codec = stream.codec_context.codec.canonical_name if stream.codec_context else ""
        return _Payload(
            stream.type, codec, stream.language, int(stream.disposition), packets, digest.hexdigest(), start
        )


def _sound(path: str, index: int) -> str:
    """Hash of the decoded samples of an audio stream."""
    digest = hashlib.sha256()
    count = DecodeCount()
    with open_media(path, _ANY_SIZE) as container:
        stream: Any = container.streams[index]
        for frame in decode_stream(container, stream, Decoder(stream), count):
            sound: Any = frame
            digest.update(sound.to_ndarray().tobytes())
    return digest.hexdigest()


def _language(payload: _Payload) -> str | None:
    return None if payload.language in (None, "und") else payload.language


def _chapter_problems(path: str, source_path: str) -> list[str]:
    with open_media(path, _ANY_SIZE) as out, open_media(source_path, _ANY_SIZE) as source:
        was, now = (
            [(c["start"] * Fraction(c["time_base"] or 1), c["metadata"].get("title")) for c in f.chapters()]
            for f in (source, out)
        )
    same = len(was) == len(now) and all(
        abs(a - b) <= Fraction(1, 1000) and t == u for (a, t), (b, u) in zip(was, now, strict=True)
    )
    return [] if same else [f"{len(now)} chapters differ from the {len(was)} of the source"]
