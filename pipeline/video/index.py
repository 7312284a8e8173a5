"""One linear pass over a file: the frames it really has, their times, hashes, keys and scenes.

Packet counts, header durations and rates are not trusted for anything: hidden frames, edit lists
and field pictures make all of them wrong. Later reads are checked against this index.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any, NoReturn

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.errors import SourceError
from pipeline.settings import Limits
from pipeline.video.colour import TRANSFER_HLG, TRANSFER_PQ, resolve_colour
from pipeline.video.opening import DecodeCount, decode_packet, demux, fix_threads, open_media
from pipeline.video.planes import hash64
from pipeline.video.probe import probe, video_stream
from pipeline.video.scenes import SceneFinder
from pipeline.video.types import Geometry, Hdr, Probe, VideoIndex

_DYNAMIC_SIDE_DATA = ("DYNAMIC_HDR_PLUS", "DOVI_RPU_BUFFER", "DOVI_METADATA", "DYNAMIC_HDR_VIVID",
                      "A53_CC", "AFD", "S12M_TIMECODE", "GOP_TIMECODE")  # fmt: skip


def build_index(path: str, uri: str, limits: Limits, source_digest: str) -> VideoIndex:
    """Probe and decode a whole local file once.

    Args:
        path: local file; ``uri``: the name the user knows it by, for messages.
        limits: enforced from the header where it says enough, and again while decoding.
        source_digest: content digest of the file, stored in the index.

    Raises:
        SourceError: everything `probe` raises, and ``no_frames``, ``no_timestamps``, ``pts_missing``,
            ``duplicate_pts``, ``pts_not_monotonic``, ``resolution_change``,
            ``too_many_frames``, ``too_long``, ``too_many_pixels``.
    """
    facts = probe(path, uri, limits)
    try:
        with open_media(path, limits.max_pixels) as container:
            stream = video_stream(container, facts.stream)
            fix_threads(stream, limits.max_pixels)
            scan = _Scan(facts, uri, limits)
            scan.run(container, stream)
    except (FFmpegError, OSError) as error:
        raise SourceError(
            f"{uri} could be opened but not read ({type(error).__name__}); fetch it again.",
            code="unreadable",
            uri=uri,
        ) from error
    return scan.index(source_digest)


class _Scan:
    """State of the pass. Grows by a few integers per frame."""

    def __init__(self, facts: Probe, uri: str, limits: Limits) -> None:
        self.facts, self.uri, self.limits = facts, uri, limits
        self.count = DecodeCount()
        self.pts: list[int] = []
        self.hashes: list[int] = []
        self.keys: list[tuple[int, int]] = []
        self.packet_pts: list[int] = []
        self.missing_pts = 0
        self.interlaced = 0
        self.last_duration = 0
        self.picture: tuple[int, int, str] | None = None
        self.first = _FirstFrame(None, None, ())
        self.colour = facts.colour
        self.bit_depth = facts.bit_depth
        self.scenes = SceneFinder(facts.average_rate)

    def run(self, container: InputContainer, stream: VideoStream) -> None:
        ordinal = 0
        for frame in self._frames(container, stream):
            self._check(frame, ordinal, stream)
            self.hashes.append(hash64(frame))
            self.scenes.feed(ordinal, frame)
            self.interlaced += frame.interlaced_frame
            self.last_duration = int(frame.duration or 0)
            ordinal += 1
        self._check_whole(ordinal)

    def _frames(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        for packet in demux(container, stream, self.count):
            self._note_packet(packet)
            yield from decode_packet(packet, self.count)

    def _note_packet(self, packet: Packet[Any]) -> None:
        if packet.size == 0 or packet.pts is None:
            return
        if not packet.is_discard:
            self.packet_pts.append(packet.pts)
        if packet.is_keyframe:
            self.keys.append((packet.pts, packet.dts if packet.dts is not None else packet.pts))

    def _check(self, frame: VideoFrame, ordinal: int, stream: VideoStream) -> None:
        picture = (frame.width, frame.height, frame.format.name)
        if self.picture is None:
            self._accept_first(frame, stream)
        elif picture != self.picture:
            was, now = ("{}x{} {}".format(*p) for p in (self.picture, picture))
            self._refuse("resolution_change", f"changes from {was} to {now} at frame {ordinal}; "
                         "split it there and process the parts", frame=ordinal)  # fmt: skip
        if ordinal >= self.limits.max_frames:
            self._refuse("too_many_frames", f"has more than limits.max_frames = {self.limits.max_frames} "
                         "frames; raise the limit or cut the video")  # fmt: skip
        if frame.pts is None:
            self.missing_pts += 1
            return
        if self.pts and frame.pts == self.pts[-1]:
            self._refuse("duplicate_pts", f"shows two frames at the same time (frames {ordinal - 1} and "
                         f"{ordinal}); remux it with corrected timestamps", frame=ordinal)  # fmt: skip
        if self.pts and frame.pts < self.pts[-1]:
            self._refuse("pts_not_monotonic", f"goes back in time at frame {ordinal}; remux it with "
                         "corrected timestamps", frame=ordinal)  # fmt: skip
        self.pts.append(frame.pts)

    def _accept_first(self, frame: VideoFrame, stream: VideoStream) -> None:
        self.picture = (frame.width, frame.height, frame.format.name)
        if frame.width * frame.height > self.limits.max_pixels:
            self._refuse("too_many_pixels", f"decodes to {frame.width}x{frame.height}, more than "
                         f"limits.max_pixels = {self.limits.max_pixels}")  # fmt: skip
        self.first = read_first_frame(frame)
        self.bit_depth = max(c.bits for c in frame.format.components)
        context = stream.codec_context
        tags = (
            int(frame.color_range) or context.color_range,
            _known(int(frame.colorspace), context.colorspace),
            _known(int(frame.color_primaries), context.color_primaries),
            _known(int(frame.color_trc), context.color_trc),
        )
        self.colour = resolve_colour(tags, frame.format.name, frame.width, frame.height)

    def _check_whole(self, frames: int) -> None:
        if frames == 0:
            self._refuse("no_frames", f"has {self.count.packets} packets but not one decodable frame")
        if self.missing_pts == frames:
            self._refuse("no_timestamps", "has no timestamps; remux it with a known frame rate first")
        if self.missing_pts:
            self._refuse("pts_missing", f"has {self.missing_pts} of {frames} frames without a timestamp; "
                         "remux it so that time starts at or after zero")  # fmt: skip

        seconds = _length(self.pts) * self.facts.time_base
        if seconds > Fraction(self.limits.max_seconds):
            self._refuse("too_long", f"lasts {round(seconds)} s, more than limits.max_seconds = "
                         f"{self.limits.max_seconds:g}; raise the limit or cut the video")  # fmt: skip

    def index(self, source_digest: str) -> VideoIndex:
        facts, (width, height, pix_fmt) = self.facts, self.picture or (0, 0, "")
        steps = [b - a for a, b in pairwise(self.pts)]
        last = self.last_duration or (steps[-1] if steps else 0) or 1
        geometry = facts.geometry
        return VideoIndex(
            source_digest=source_digest,
            container=facts.container,
            stream=facts.stream,
            streams=facts.streams,
            codec=facts.codec,
            pix_fmt=pix_fmt,
            bit_depth=self.bit_depth,
            time_base=facts.time_base,
            average_rate=self._rate(),
            pts=tuple(self.pts),
            durations=(*steps, last),
            frame_hashes=tuple(self.hashes),
            key_pts=tuple(pts for pts, _ in sorted(set(self.keys))),
            key_dts=tuple(dts for _, dts in sorted(set(self.keys))),
            cuts=self.scenes.cuts(),
            colour=self.colour,
            geometry=Geometry(width, height, geometry.sample_aspect_ratio, self.first.display_matrix),
            interlaced_frames=self.interlaced,
            decode_errors=self.count.errors,
            warnings=self._warnings(),
            hdr=self.first.hdr,
            field_order=facts.field_order,
        )

    def _rate(self) -> Fraction:
        if self.facts.average_rate > 0:
            return self.facts.average_rate
        span = (self.pts[-1] - self.pts[0]) * self.facts.time_base
        return (len(self.pts) - 1) / span if span > 0 else Fraction(25)

    def _warnings(self) -> tuple[str, ...]:
        found = list(self.facts.warnings)
        if self.count.errors:
            found.append(f"decode_errors={self.count.errors}: damaged packets were skipped")
        if self.count.corrupt:
            found.append(f"corrupt_frames={self.count.corrupt}: damaged pictures were concealed")
        lead = sum(pts < self.pts[0] for pts in self.packet_pts)
        if lead:
            found.append(f"leading_packets_undecodable={lead}: the file starts before its first key frame")
        found += _gap_warnings(self.pts, self.facts.time_base)
        if self.colour.transfer in (TRANSFER_PQ, TRANSFER_HLG):
            name = "pq" if self.colour.transfer == TRANSFER_PQ else "hlg"
            found.append(f"{name}_transfer: HDR code values are processed as they are, without tone mapping")
        if self.interlaced:
            found.append(f"interlaced_frames={self.interlaced}: pictures keep both fields woven")
        if self.first.dynamic:
            found.append(f"dropped_side_data: {', '.join(self.first.dynamic)}")
        return tuple(found)

    def _refuse(self, code: str, why: str, **facts: int) -> NoReturn:
        raise SourceError(f"{self.uri} {why}.", code=code, uri=self.uri, **facts)


class _FirstFrame:
    """Side data of the first frame that describes the whole stream."""

    def __init__(
        self, display_matrix: tuple[int, ...] | None, hdr: Hdr | None, dynamic: tuple[str, ...]
    ) -> None:
        self.display_matrix, self.hdr, self.dynamic = display_matrix, hdr, dynamic


def read_first_frame(frame: VideoFrame) -> _FirstFrame:
    """Display matrix, static HDR metadata, and the names of per-frame data a re-encode loses."""
    matrix = mastering = light = None
    dynamic = []
    for side in _side_data(frame):
        data = bytes(side)
        if side.type == SideType.DISPLAYMATRIX and len(data) >= 36:
            matrix = struct.unpack("<9i", data[:36])
        elif side.type == SideType.MASTERING_DISPLAY_METADATA and len(data) >= 80:
            numbers = struct.unpack("<20i", data[:80])
            mastering = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        elif side.type == SideType.CONTENT_LIGHT_LEVEL and len(data) >= 8:
            light = struct.unpack("<2I", data[:8])
        elif side.type.name in _DYNAMIC_SIDE_DATA:
            dynamic.append(side.type.name.lower())
    hdr = Hdr(mastering, light) if mastering or light else None
    return _FirstFrame(matrix, hdr, tuple(dynamic))


def _side_data(frame: VideoFrame) -> list[SideData]:
    try:
        found: Any = frame.side_data
        return list(found)
    except ValueError:
        return []  # A kind of side data newer than this PyAV; nothing here needs it.


def _known(value: int, fallback: int) -> int:
    return value if value not in (0, 2) else fallback


def _length(pts: list[int]) -> int:
    """First to last frame without the jumps of the clock, in time base units."""
    limit = _longest_step(pts)
    return sum(b - a for a, b in pairwise(pts) if b - a <= limit)


def _gap_warnings(pts: list[int], time_base: Fraction) -> list[str]:
    limit = _longest_step(pts)
    gaps = [(b - a, i + 1) for i, (a, b) in enumerate(pairwise(pts)) if b - a > limit]
    return [f"pts_gap: {float(gap * time_base):.3f} s before frame {i}, times kept" for gap, i in gaps[:8]]


def _longest_step(pts: list[int]) -> int:
    """A longer step than ten usual ones is a hole; too few frames tell nothing of what is usual."""
    steps = sorted(b - a for a, b in pairwise(pts))
    if len(steps) < 8:
        return max(steps, default=0)
    return 10 * steps[len(steps) // 2]
