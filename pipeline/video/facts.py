"""What a file says about itself besides its pictures: streams, names, chapters, tags, colour, geometry."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition

from pipeline.errors import SourceError
from pipeline.video.carry import clean_tags
from pipeline.video.measured import ANY_SIZE, main_stream
from pipeline.video.opening import DecodeCount, Decoder, decode_stream, open_media
from pipeline.video.side_data import read_first_frame
from pipeline.video.types import Hdr

Tags = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class StreamFacts:
    """One stream. ``language`` is empty when undetermined; ``tags`` are those worth keeping, keys in
    small letters; ``content`` is the SHA-256 of an attachment's or cover picture's bytes, else empty."""

    index: int
    kind: str
    codec: str
    language: str
    disposition: int
    tags: Tags
    content: str

    @property
    def attached(self) -> bool:
        """Whether this is an attachment or a cover picture."""
        return self.kind == "attachment" or bool(self.disposition & Disposition.attached_pic)


@dataclass(frozen=True)
class Chapter:
    """A chapter; times in seconds."""

    start: Fraction
    end: Fraction
    title: str


@dataclass(frozen=True)
class PictureFacts:
    """Main video stream: stored size, pixel format, aspect, turn, colour tags (range, matrix, primaries,
    transfer as AVCOL_* integers) and static HDR metadata of the first frame. ``seconds`` is how long
    the stream says it lasts (0 when it does not say)."""

    width: int
    height: int
    pix_fmt: str
    sample_aspect_ratio: Fraction
    display_matrix: tuple[int, ...] | None
    colour: tuple[int, int, int, int]
    hdr: Hdr | None
    seconds: Fraction


@dataclass(frozen=True)
class FileFacts:
    """All of it. ``main`` is the index of the main video stream."""

    streams: tuple[StreamFacts, ...]
    chapters: tuple[Chapter, ...]
    tags: Tags
    main: int
    picture: PictureFacts

    def record(self) -> dict[str, Any]:
        """As finite JSON, for the manifest; equal files give equal records."""
        return _plain(dataclasses.asdict(self))


def read_facts(path: str, stream: int | None = None) -> FileFacts:
    """Read a file's header, its first picture and its attachments.

    Raises:
        SourceError: ``unreadable``: it cannot be opened or shows no picture.
    """
    try:
        contents = _attached_contents(path)
        with open_media(path, ANY_SIZE) as container:
            main = main_stream(container, stream)
            return FileFacts(
                streams=tuple(_stream_facts(s, contents.get(s.index, "")) for s in container.streams),
                chapters=tuple(_chapter(c) for c in container.chapters()),
                tags=_tags(container.metadata),
                main=main.index,
                picture=_picture(container, main),
            )
    except (FFmpegError, OSError, StopIteration) as error:
        raise SourceError(
            f"{path} cannot be read ({type(error).__name__}); it is damaged or not a video.",
            code="unreadable",
        ) from error


def _stream_facts(stream: Any, content: str) -> StreamFacts:
    context = stream.codec_context
    named = dict(_tags(stream.metadata))
    # Some files have it as a tag in capitals, which FFmpeg does not take for the language but hands on.
    language = named.pop("language", "")
    tags = tuple(named.items())
    return StreamFacts(
        index=stream.index,
        kind=stream.type,
        codec=context.codec.canonical_name if context is not None else "",
        language="" if language == "und" else language,
        disposition=int(stream.disposition),
        tags=tags,
        content=content,
    )


def _tags(metadata: Any) -> Tags:
    return tuple(sorted((key.lower(), value) for key, value in clean_tags(metadata).items()))


def _chapter(chapter: Any) -> Chapter:
    base = Fraction(chapter["time_base"] or 1)
    return Chapter(chapter["start"] * base, chapter["end"] * base, chapter["metadata"].get("title", ""))


def _attached_contents(path: str) -> dict[int, str]:
    """SHA-256 of every attachment and cover picture, by stream index."""
    found: dict[int, str] = {}
    with open_media(path, ANY_SIZE) as container:
        for stream in container.streams:
            if stream.type == "attachment":
                attachment: Any = stream
                found[stream.index] = hashlib.sha256(bytes(attachment.data)).hexdigest()
        covers: list[Any] = [s for s in container.streams.video if s.disposition & Disposition.attached_pic]
        for cover in covers:
            packet = _first_packet(container, cover)
            found[cover.index] = hashlib.sha256(packet).hexdigest()
    return found


def _first_packet(container: InputContainer, stream: Any) -> bytes:
    for packet in container.demux(stream):
        if packet.size:
            return bytes(packet)
    return b""


def _picture(container: InputContainer, stream: Any) -> PictureFacts:
    context = stream.codec_context
    first = next(iter(decode_stream(container, stream, Decoder(stream), DecodeCount())))
    facts = read_first_frame(first)
    return PictureFacts(
        width=first.width,
        height=first.height,
        pix_fmt=first.format.name,
        sample_aspect_ratio=Fraction(stream.sample_aspect_ratio or 1),
        display_matrix=facts.display_matrix,
        colour=(
            int(context.color_range),
            int(context.colorspace),
            int(context.color_primaries),
            int(context.color_trc),
        ),
        hdr=facts.hdr,
        seconds=Fraction(stream.duration or 0) * Fraction(stream.time_base or 1),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    return value
