"""Read a finished file again and compare it with what it was meant to be.

Eight checks, and all have to hold before a file is published:

    V1 streams    streams, codecs, languages, titles, dispositions, chapters, attachments, aspect, turn
    V2 times      as many frames as planned, each at its time
    V3 pictures   nothing fails to decode, and every picture is the one that was encoded
    V4 sound      packets of copied streams, and their place in time beside the picture
    V5 colour     colour tags and static HDR metadata
    V6 lossless   identity jobs with a lossless codec: the decoded pictures are the source's, bit for bit
    V7 quality    identity jobs with a lossy codec: the pictures are close to the source's
    V8 object     size, SHA-256, encoder and versions of what was written are known
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise

import av
import numpy as np
from av.error import FFmpegError

from pipeline.errors import SourceError
from pipeline.keys import file_sha256
from pipeline.settings import EncodeSettings
from pipeline.video.colour import UNSPECIFIED
from pipeline.video.encoders import HDR_ENCODERS, describe_encoder, expects_fidelity, is_lossless
from pipeline.video.facts import FileFacts, read_facts
from pipeline.video.measured import Watcher, measure
from pipeline.video.quality import LumaWatcher, Quality, comparable, lossless_problems, sum_up
from pipeline.video.sound import sound_problems
from pipeline.video.streams import lost_tags, stream_problems
from pipeline.video.treat import treated_frames
from pipeline.video.types import Assembly, Hdr, Measured, Segment, VideoIndex

__all__ = ["OK", "ObjectFacts", "Verification", "measure", "object_facts", "verify_file", "verify_output"]

OK = "ok"
_HALF_MILLISECOND = Fraction(1, 2000)
# A last frame that stays this many usual steps is a hold that somebody meant.
_HOLD_STEPS = 3


@dataclass(frozen=True)
class ObjectFacts:
    """The written object: bytes, SHA-256, the encoder with all its options, and FFmpeg's version."""

    size: int
    sha256: str
    encoder: str
    ffmpeg: str


@dataclass(frozen=True)
class Verification:
    """What the eight checks found. ``checks`` maps ``V1_streams`` ... ``V8_object`` to "ok", to
    "not applicable: why", or to the problems; ``problems`` is empty when the file may be published."""

    checks: Mapping[str, str]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    measured: Measured
    facts: FileFacts
    object: ObjectFacts
    quality: Quality | None = None


def verify_output(
    path: str, source_path: str, index: VideoIndex, segments: Sequence[Segment], assembly: Assembly
) -> tuple[Measured, tuple[str, ...]]:
    """`verify_file` without what depends on the job: what was measured, and one sentence per problem."""
    found = verify_file(path, source_path, index, segments, assembly)
    return found.measured, found.problems


def verify_file(
    path: str,
    source_path: str,
    index: VideoIndex,
    segments: Sequence[Segment],
    assembly: Assembly,
    settings: EncodeSettings | None = None,
    *,
    identity: bool = False,
) -> Verification:
    """Check a finished file.

    Args:
        settings: how it was encoded; without them V6 to V8 are told as not applicable.
        identity: the frames were meant to be the source's own.

    Raises:
        SourceError: ``unreadable``.
    """
    watching = _Pictures(source_path, index, segments, settings, identity)
    try:
        measured = measure(path, assembly.stream, watching.watchers)
        facts = read_facts(path, assembly.stream)
        source = read_facts(source_path, index.stream)
        offset = _video_offset(measured, index)
        written = object_facts(path, index, segments[0], settings)
        problems = {
            "V1_streams": [*stream_problems(facts, source, index, segments[0], assembly)],
            "V2_times": [*_time_problems(measured, index, segments, assembly)],
            "V3_pictures": [*_picture_problems(measured, segments)],
            "V4_sound": sound_problems(path, source_path, assembly, offset),
            "V5_colour": [*_colour_problems(facts, index, segments[0])],
            "V6_lossless": [*watching.lossless_problems(measured)],
            "V7_quality": [*watching.quality_problems()],
            "V8_object": [*_object_problems(written, settings)],
        }
    except (FFmpegError, OSError, SourceError) as error:
        raise SourceError(
            f"The finished file cannot be read again ({type(error).__name__}); run the job again.",
            code="unreadable",
        ) from error
    checks = {name: "; ".join(found) or watching.skipped(name) or OK for name, found in problems.items()}
    if settings is None:
        checks["V8_object"] = "not applicable: settings unknown"
    return Verification(
        checks=checks,
        problems=tuple(chain.from_iterable(problems.values())),
        warnings=(
            *lost_tags(facts, source, index, assembly),
            *_hold_warnings(measured, index, facts.picture.seconds),
            *watching.warnings(),
        ),
        measured=measured,
        facts=facts,
        object=written,
        quality=watching.quality,
    )


class _Pictures:
    """V6 and V7 share the one pass over the output that `measure` makes."""

    def __init__(
        self,
        source_path: str,
        index: VideoIndex,
        segments: Sequence[Segment],
        settings: EncodeSettings | None,
        identity: bool,
    ) -> None:
        self._segments, self._settings, self._planned = segments, settings, index.frame_hashes
        self._luma: LumaWatcher | None = None
        reason = "" if identity and settings is not None else "pictures were processed"
        reason = reason or comparable(index, segments[0])
        how = index.treatment
        changed = how.deinterlace or how.scale or how.turn
        treated = "the source's pictures were deinterlaced, scaled or turned" if changed else ""
        lossless = settings is not None and is_lossless(settings)
        self._skipped = {
            "V6_lossless": reason or treated or ("" if lossless else "the codec is lossy"),
            "V7_quality": reason or ("the codec is lossless" if lossless else ""),
        }
        if not self._skipped["V7_quality"]:
            self._luma = LumaWatcher(treated_frames(source_path, index, 0, index.frames))

    @property
    def watchers(self) -> list[Watcher]:
        return [] if self._luma is None else [self._luma]

    @property
    def quality(self) -> Quality | None:
        return None if self._luma is None else sum_up(self._luma.errors, self._segments)

    def skipped(self, name: str) -> str:
        reason = self._skipped.get(name, "")
        return f"not applicable: {reason}" if reason else ""

    def lossless_problems(self, measured: Measured) -> Iterator[str]:
        if not self._skipped["V6_lossless"]:
            yield from lossless_problems(measured.frame_hashes, self._planned)

    def quality_problems(self) -> Iterator[str]:
        if self._luma is not None and self._luma.broken:
            yield f"the source could not be read beside the output: {self._luma.broken}"
        if self.quality is not None and self._demanding:
            yield from self.quality.problems()

    def warnings(self) -> Iterator[str]:
        if self.quality is None:
            return
        yield from self.quality.warnings()
        if not self._demanding:
            yield from (f"low_quality: {text}" for text in self.quality.problems())

    @property
    def _demanding(self) -> bool:
        """Whoever asks for the coarsest quantizers gets what he asked for, with a warning."""
        return self._settings is not None and expects_fidelity(self._settings)


def object_facts(
    path: str, index: VideoIndex, segment: Segment | None, settings: EncodeSettings | None
) -> ObjectFacts:
    """Size and digest of a local file, and what made it; ``copy`` when nothing was encoded."""
    encoder = "copy"
    if segment is not None:
        encoder = describe_encoder(index, settings, segment.width, segment.height) if settings else ""
    return ObjectFacts(os.path.getsize(path), file_sha256(path), encoder, str(av.ffmpeg_version_info))


def _object_problems(written: ObjectFacts, settings: EncodeSettings | None) -> Iterator[str]:
    if settings is not None and not (written.size and written.sha256 and written.encoder and written.ffmpeg):
        yield "size, digest, encoder or FFmpeg version of the object is unknown"


def _picture_problems(measured: Measured, segments: Sequence[Segment]) -> Iterator[str]:
    if measured.decode_errors:
        yield f"{measured.decode_errors} decode errors in the output"
    planned = chain.from_iterable(s.frame_hashes for s in segments)
    differ = (i for i, (a, b) in enumerate(zip(measured.frame_hashes, planned, strict=False)) if a != b)
    first = next(differ, None)
    if first is not None:
        wrong = 1 + sum(1 for _ in differ)
        yield f"{wrong} frames decode to other pictures than their segments, first frame {first}"


def _time_problems(
    measured: Measured, index: VideoIndex, segments: Sequence[Segment], assembly: Assembly
) -> Iterator[str]:
    encoded = sum(s.frames for s in segments)
    if measured.frames != encoded:
        yield f"{measured.frames} frames in the output, {encoded} were encoded"
    if measured.frames != index.frames:
        yield f"{measured.frames} frames in the output, {index.frames} in the source"
        return
    exact = assembly.container in ("mp4", "mov")
    if any(a >= b for a, b in pairwise(measured.pts)):
        yield "frame times of the output do not increase"

    def planned(pts: int) -> Fraction:
        time = pts * index.time_base + assembly.shift
        # Matroska counts milliseconds.
        return time if exact else _whole_milliseconds(time)

    # It cannot hold times before zero (audio priming), so its muxer may move all streams alike.
    offset = Fraction(0) if exact else measured.pts[0] * measured.time_base - planned(index.pts[0])
    pairs = zip(measured.pts, index.pts, strict=True)
    worst = max(abs(now * measured.time_base - planned(was) - offset) for now, was in pairs)
    if worst:
        yield f"frame times differ from the source by up to {float(worst * 1000):.3f} ms"


def _whole_milliseconds(time: Fraction) -> Fraction:
    """Rounded as FFmpeg does, halves away from zero."""
    count = int(abs(time) * 1000 + Fraction(1, 2))
    return Fraction(count if time >= 0 else -count, 1000)


def _video_offset(measured: Measured, index: VideoIndex) -> Fraction:
    if not measured.frames:
        return Fraction(0)
    return measured.pts[0] * measured.time_base - index.pts[0] * index.time_base


def _hold_warnings(measured: Measured, index: VideoIndex, seconds: Fraction) -> Iterator[str]:
    """Containers other than Matroska have no durations, only distances of decoding times."""
    steps = np.sort(np.asarray(index.durations)[:-1])
    if not len(steps) or index.durations[-1] < _HOLD_STEPS * int(steps[len(steps) // 2]):
        return
    planned, found = index.durations[-1] * index.time_base, measured.last_duration * measured.time_base
    if abs(planned - found) > _HALF_MILLISECOND:
        yield (
            f"last_frame_hold: the last frame stays {float(planned):.3f} s in the source; this file says "
            f"{float(found):.3f} s of that frame and {float(seconds):.3f} s of the whole stream"
        )


def _colour_problems(facts: FileFacts, index: VideoIndex, segment: Segment) -> Iterator[str]:
    colour = index.colour
    planned = (colour.range, colour.matrix, colour.primaries, colour.transfer)
    names = ("range", "matrix", "primaries", "transfer")
    for name, was, now in zip(names, planned, facts.picture.colour, strict=True):
        if was != now and not (was == UNSPECIFIED and now == 0):
            yield f"colour {name} is tagged {now}, planned {was}"
    if segment.codec in HDR_ENCODERS and not _same_hdr(index.hdr, facts.picture.hdr):
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
