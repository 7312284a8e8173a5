"""V1: whether streams, names, chapters, attachments and geometry of a finished file are as planned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

from av.codec import Codec
from av.stream import Disposition

from pipeline.video.facts import FileFacts, StreamFacts
from pipeline.video.geometry import is_rotation, scaled_matrix, scaled_sar
from pipeline.video.types import Assembly, Segment, VideoIndex

_MILLISECOND = Fraction(1, 1000)
#: Names under which a container gives back what went in under another one.
_ALIASES = {"name": "title"}
_NEVER_LOST = ("title",)
#: One MP4 object type stands for all layers of MPEG audio.
_SAME_SOUND = ("mp1", "mp2", "mp3")


def stream_problems(
    found: FileFacts, source: FileFacts, index: VideoIndex, segment: Segment, assembly: Assembly
) -> Iterator[str]:
    """One sentence per difference between a finished file and the plan."""
    yield from _count_problems(found, source, index, assembly)
    if found.main >= len(found.streams) or index.stream >= len(source.streams):
        return
    main = found.streams[found.main]
    codec = Codec(segment.codec, "w").canonical_name
    if main.codec != codec:
        yield f"the video is {main.codec}, planned {codec}"
    yield from _name_problems(source.streams[index.stream], main)
    for kept, copy in assembly.copied:
        was = source.streams[kept] if kept < len(source.streams) else None
        if copy >= len(found.streams) or was is None:
            yield f"source stream {kept} is missing in the output"
            continue
        now = found.streams[copy]
        if not same_codec(was.codec, now.codec) and (was.codec, now.codec) != ("mov_text", "subrip"):
            yield f"stream {copy} is {now.codec}, its source {was.codec}"
        yield from _name_problems(was, now)
    yield from _attachment_problems(found, source, assembly)
    yield from _chapter_problems(found, source, assembly.container)
    if _required(found.tags) != _required(source.tags):
        yield f"the file's title is {_required(found.tags)}, planned {_required(source.tags)}"
    yield from _geometry_problems(found, index, segment, assembly)


def lost_tags(found: FileFacts, source: FileFacts, index: VideoIndex, assembly: Assembly) -> tuple[str, ...]:
    """A warning that names the tags the output's container did not keep; empty when it kept all."""
    pairs = [("file", source.tags, found.tags)]
    for kept, copy in ((index.stream, found.main), *assembly.copied):
        if kept < len(source.streams) and copy < len(found.streams):
            pairs.append((f"stream {copy}", source.streams[kept].tags, found.streams[copy].tags))
    lost = []
    for place, was, now in pairs:
        names = {_ALIASES.get(key, key) for key, _ in now}
        # The date of every single stream repeats that of the file.
        names |= {"creation_time"} if place != "file" else set()
        lost += [f"{place} {key}" for key, _ in was if _ALIASES.get(key, key) not in names]
    return (f"tags_dropped: {assembly.container} does not store {', '.join(lost)}",) if lost else ()


def same_codec(was: str, now: str) -> bool:
    """Whether two canonical codec names mean the same packets."""
    return was == now or (was in _SAME_SOUND and now in _SAME_SOUND)


def dropped_indices(assembly: Assembly) -> set[int]:
    """Source streams that are listed as dropped."""
    return {int(text.split()[1]) for text in assembly.dropped_streams}


def _count_problems(
    found: FileFacts, source: FileFacts, index: VideoIndex, assembly: Assembly
) -> Iterator[str]:
    copied = {kept for kept, _ in assembly.copied}
    attached = [s.index for s in _planned_attachments(source, assembly)]
    known = {index.stream, *copied, *dropped_indices(assembly), *attached}
    for stream in source.streams:
        if stream.index not in known:
            yield f"source stream {stream.index} ({stream.kind}) is neither kept nor listed as dropped"
    planned = 1 + len(copied) + len(attached)
    # MP4 keeps chapters and time codes in data streams of its own.
    present = sum(s.kind != "data" for s in found.streams)
    if present != planned:
        yield f"{present} streams in the output, planned {planned}"


def _planned_attachments(source: FileFacts, assembly: Assembly) -> list[StreamFacts]:
    """Attachments and covers that become attachments of a Matroska file."""
    copied = {kept for kept, _ in assembly.copied}
    gone = dropped_indices(assembly) | copied
    return [s for s in source.streams if s.attached and s.index not in gone]


def _attachment_problems(found: FileFacts, source: FileFacts, assembly: Assembly) -> Iterator[str]:
    planned = Counter(s.content for s in _planned_attachments(source, assembly))
    copies = {copy for _, copy in assembly.copied}
    present = Counter(s.content for s in found.streams if s.attached and s.index not in copies)
    if planned != present:
        missing = sum((planned - present).values())
        yield f"{missing} of {planned.total()} attachments are missing or have other bytes"


def _name_problems(was: StreamFacts, now: StreamFacts) -> Iterator[str]:
    if was.language != now.language:
        yield f"stream {now.index} has language {now.language or None}, its source {was.language or None}"
    # MP4 has to enable one track of each kind, even if the source marked none as default.
    if now.disposition not in (was.disposition, was.disposition | Disposition.default):
        yield f"stream {now.index} has disposition {now.disposition}, its source {was.disposition}"
    if _required(was.tags) != _required(now.tags):
        yield f"stream {now.index} has title {_required(now.tags)}, its source {_required(was.tags)}"


def _required(tags: tuple[tuple[str, str], ...]) -> list[str]:
    named = {_ALIASES.get(key, key): value for key, value in tags}
    return [named[key] for key in _NEVER_LOST if key in named]


def _chapter_problems(found: FileFacts, source: FileFacts, container: str) -> Iterator[str]:
    was, now = source.chapters, found.chapters
    # MP4 lets a chapter end where the next one starts.
    ends = container == "mkv"
    same = len(was) == len(now) and all(
        abs(a.start - b.start) <= _MILLISECOND
        and (not ends or abs(a.end - b.end) <= _MILLISECOND)
        and a.title == b.title
        for a, b in zip(was, now, strict=True)
    )
    if not same:
        yield f"{len(now)} chapters differ from the {len(was)} of the source"


def _geometry_problems(
    found: FileFacts, index: VideoIndex, segment: Segment, assembly: Assembly
) -> Iterator[str]:
    picture, size = found.picture, (segment.width, segment.height)
    if (picture.width, picture.height) != size:
        yield f"pictures are {picture.width}x{picture.height}, planned {size[0]}x{size[1]}"
    wanted = scaled_sar(index.geometry, *size)
    if abs(picture.sample_aspect_ratio - wanted) > wanted / 200:
        yield f"sample aspect ratio is {picture.sample_aspect_ratio}, planned {wanted}"
    matrix = scaled_matrix(index.geometry, *size)
    exact = assembly.container in ("mp4", "mov")
    same = picture.display_matrix == matrix
    if not exact and matrix is not None and picture.display_matrix is not None:
        same = picture.display_matrix[:6] == matrix[:6]
    if not same and (exact or matrix is None or is_rotation(matrix)):
        yield f"display matrix is {picture.display_matrix}, planned {matrix}"
