"""One linear pass over a file: the frames it really has, their times, hashes, keys and scenes.

Packet counts, header durations and rates are not trusted for anything: hidden frames, edit lists
and field pictures make all of them wrong. Later reads are checked against this index.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any, NoReturn

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.errors import SourceError
from pipeline.settings import Limits, VideoPolicy
from pipeline.video.colour import resolve_colour
from pipeline.video.fields import FieldDetective
from pipeline.video.geometry import is_turned
from pipeline.video.hdr import TRANSFER_HLG, TRANSFER_PQ, light_peak
from pipeline.video.integers import Hashes, Integers
from pipeline.video.oddities import Oddities, described, warnings_of
from pipeline.video.opening import DecodeCount, Decoder, demux
from pipeline.video.planes import hash64
from pipeline.video.presentation import (
    TimeFault,
    find_fault,
    rebuild_times,
    running_time,
    usual_step,
)
from pipeline.video.probe import open_probed, video_stream
from pipeline.video.scenes import SceneFinder
from pipeline.video.side_data import FirstFrame, dynamic_side_data, read_first_frame
from pipeline.video.turn import turned_format, turned_geometry
from pipeline.video.types import Deinterlace, Geometry, Probe, Treatment, VideoIndex

#: Side data that changes comes with every picture or with none; asking each takes longer than hashing it.
_SIDE_DATA_EVERY = 16
#: A file of which more cannot be decoded is no video with a flaw any more.
_ERROR_SHARE = Fraction(1, 10)


def build_index(
    path: str, uri: str, limits: Limits, source_digest: str, policy: VideoPolicy | None = None
) -> VideoIndex:
    """Probe and decode a whole local file once.

    Args:
        path: local file; ``uri``: the name the user knows it by, for messages.
        limits: enforced from the header where it says enough, and again while decoding.
        source_digest: content digest of the file, stored in the index.
        policy: what to do with sources that are not plain; None refuses or keeps, as `VideoPolicy` does.

    Raises:
        SourceError: everything `probe` raises, and ``no_frames``, ``damaged``, ``no_timestamps``,
            ``pts_missing``, ``duplicate_pts``, ``pts_not_monotonic``, ``resolution_change``,
            ``interlaced``, ``alpha``, ``hdr``, ``too_many_frames``, ``too_long``, ``too_many_pixels``.
    """
    policy = policy or VideoPolicy()
    container, facts, head = open_probed(path, uri, limits, policy)
    try:
        with container:
            stream = video_stream(container, facts.stream)
            decoder = Decoder(stream, alpha=policy.alpha == "keep", max_pixels=limits.max_pixels)
            scan = _Scan(facts, uri, limits, policy)
            scan.run(container, stream, decoder, head)
    except (FFmpegError, OSError) as error:
        raise SourceError(
            f"{uri} could be opened but not read ({type(error).__name__}); fetch it again.",
            code="unreadable",
            uri=uri,
        ) from error
    return scan.index(source_digest)


class _Scan:
    """State of the pass. Grows by a few integers of eight bytes per frame."""

    def __init__(self, facts: Probe, uri: str, limits: Limits, policy: VideoPolicy) -> None:
        self.facts, self.uri, self.limits, self.policy = facts, uri, limits, policy
        self.count = DecodeCount()
        self.known_pts = array("q")
        self.untimed: list[int] = []
        self.times = _Times(Integers(), facts.time_base, 0)
        self.hashes = array("Q")
        self.keys = array("q")
        self.packet_pts = array("q")
        self.before_key = array("q")
        self.interlaced = self.torn_packets = 0
        self.last_duration = 0
        self.picture: tuple[int, int, str] | None = None
        self.resized: list[tuple[int, int, int, str]] = []
        self.first = FirstFrame(None, None)
        self.dropped_side_data: dict[str, None] = {}
        self.alpha = facts.hidden_alpha
        self.colour = facts.colour
        self.bit_depth = facts.bit_depth
        self.scenes = SceneFinder(facts.average_rate)
        self.fields = FieldDetective()

    def run(
        self, container: InputContainer, stream: VideoStream, decoder: Decoder, head: list[Packet[Any]]
    ) -> None:
        ordinal = 0
        for frame in self._frames(container, stream, decoder, head):
            self._check(frame, ordinal, stream)
            self._note_time(frame.pts, ordinal)
            self.hashes.append(hash64(frame))
            self.scenes.feed(frame)
            self.fields.feed(ordinal, frame)
            self.interlaced += frame.interlaced_frame
            if ordinal % _SIDE_DATA_EVERY == 0:
                self.dropped_side_data |= dict.fromkeys(dynamic_side_data(frame))
            self.last_duration = int(frame.duration or 0)
            ordinal += 1
        self._check_whole(ordinal)

    def _frames(
        self, container: InputContainer, stream: VideoStream, decoder: Decoder, head: list[Packet[Any]]
    ) -> Iterator[VideoFrame]:
        self.count.packets += sum(packet.size > 0 for packet in head)
        rest = demux(container, stream, self.count) if head[-1].size else iter(())
        for packet in chain(head, rest):
            self._note_packet(packet)
            yield from decoder.decode(packet, self.count)

    def _note_packet(self, packet: Packet[Any]) -> None:
        self.torn_packets += packet.is_corrupt
        if packet.size == 0 or packet.pts is None:
            return
        if not packet.is_discard:
            self.packet_pts.append(packet.pts)
            if not self.keys and not packet.is_keyframe:
                self.before_key.append(packet.pts)
        if packet.is_keyframe:
            self.keys.extend((packet.pts, packet.dts if packet.dts is not None else packet.pts))

    def _note_time(self, pts: int | None, ordinal: int) -> None:
        if pts is None:
            self.untimed.append(ordinal)
        self.known_pts.append(pts or 0)

    def _check(self, frame: VideoFrame, ordinal: int, stream: VideoStream) -> None:
        picture = (frame.width, frame.height, frame.format.name)
        if self.picture is None:
            self._accept_first(frame, stream)
        elif picture != self.picture:
            self._accept_change(picture, ordinal)
        if ordinal >= self.limits.max_frames:
            self._refuse("too_many_frames", f"has more than limits.max_frames = {self.limits.max_frames} "
                         "frames; raise the limit or cut the video")  # fmt: skip

    def _accept_change(self, picture: tuple[int, int, str], ordinal: int) -> None:
        if self.policy.size_change == "reject":
            was, now = (described(p) for p in (self.picture or picture, picture))
            self._refuse(
                "resolution_change",
                f"changes from {was} to {now} at frame {ordinal}; split it there and process the parts, or "
                "set video.size_change: scale",
                frame=ordinal,
            )
        self._check_pixels(*picture[:2])
        if not self.resized or self.resized[-1][1:] != picture:
            self.resized.append((ordinal, *picture))

    def _check_pixels(self, width: int, height: int) -> None:
        if width * height > self.limits.max_pixels:
            self._refuse("too_many_pixels", f"decodes to {width}x{height}, more than limits.max_pixels = "
                         f"{self.limits.max_pixels}")  # fmt: skip

    def _accept_first(self, frame: VideoFrame, stream: VideoStream) -> None:
        self.picture = (frame.width, frame.height, frame.format.name)
        self._check_pixels(frame.width, frame.height)
        self.first = read_first_frame(frame)
        self.alpha |= any(c.is_alpha for c in frame.format.components)
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
        if self.count.errors > _ERROR_SHARE * self.count.packets and not self.policy.partial:
            share = f"{self.count.errors} of {self.count.packets}"
            self._refuse("damaged", f"has {share} packets that cannot be decoded; fetch it again, or process "
                         "what is there with --allow-partial")  # fmt: skip
        self.times = self._settle_times()
        seconds = running_time(self.times.pts) * self.times.time_base
        if seconds > Fraction(self.limits.max_seconds):
            self._refuse("too_long", f"lasts {round(seconds)} s, more than limits.max_seconds = "
                         f"{self.limits.max_seconds:g}; raise the limit or cut the video")  # fmt: skip
        if self.interlaced and self.policy.interlaced == "reject":
            self._refuse("interlaced", f"has {self.interlaced} interlaced frames, which video.interlaced: "
                         "reject refuses; use keep or deinterlace")  # fmt: skip
        if self.alpha and self.policy.alpha == "reject":
            self._refuse("alpha", "is transparent in places, which video.alpha: reject refuses; use keep or "
                         "drop")  # fmt: skip
        if self._hdr_name and self.policy.hdr == "reject":
            self._refuse("hdr", f"is {self._hdr_name} video, which video.hdr: reject refuses; use linear or "
                         "code_values")  # fmt: skip

    def _settle_times(self) -> _Times:
        time_base = self.facts.time_base
        raw = self._raw_times()
        fault = find_fault(raw)
        if fault is None:
            return _Times(Integers(self.known_pts), time_base, 0)
        if fault.code == "no_timestamps" and self.policy.assume_fps is not None:
            rate = Fraction(self.policy.assume_fps)
            count = len(raw)
            steady = Integers(range(0, count * rate.denominator, rate.denominator))
            return _Times(steady, Fraction(1, rate.numerator), count)
        if fault.code == "no_timestamps" or self.policy.timestamps == "reject":
            self._refuse_times(fault)
        step = usual_step(raw) or self.last_duration or round(1 / (self._stated_rate() * time_base))
        pts, rebuilt = rebuild_times(raw, max(1, step))
        return _Times(Integers(pts), time_base, rebuilt)

    def _raw_times(self) -> Sequence[int | None]:
        if not self.untimed:
            return self.known_pts
        raw: list[int | None] = list(self.known_pts)
        for ordinal in self.untimed:
            raw[ordinal] = None
        return raw

    def _refuse_times(self, fault: TimeFault) -> NoReturn:
        at, rebuild = fault.ordinal, "remux it with correct times, or set video.timestamps: rebuild"
        reasons = {
            "no_timestamps": "has no timestamps; remux it with a known frame rate, or give video.assume_fps",
            "pts_missing": f"has {fault.missing} of {len(self.known_pts)} frames without a time; {rebuild}",
            "duplicate_pts": f"shows two frames at the same time (frames {at - 1} and {at}); {rebuild}",
            "pts_not_monotonic": f"goes back in time at frame {at}; {rebuild}",
        }
        self._refuse(fault.code, reasons[fault.code], frame=at)

    @property
    def _hdr_name(self) -> str:
        return {TRANSFER_PQ: "pq", TRANSFER_HLG: "hlg"}.get(self.colour.transfer, "")

    def _treatment(self) -> Treatment:
        linear_light = self._hdr_name != "" and self.policy.hdr == "linear"
        return Treatment(
            alpha=self.alpha and self.policy.alpha == "keep",
            deinterlace=self._deinterlace() if self.policy.interlaced == "deinterlace" else "",
            scale=self.picture if self.resized else None,
            linear=self.times.rebuilt > 0,
            turn=self._turn(),
            light_peak=light_peak(self.colour.transfer, self.first.hdr) if linear_light else 0,
        )

    def _turn(self) -> tuple[int, ...] | None:
        matrix = self.first.display_matrix
        return matrix if self.policy.rotation == "bake" and is_turned(matrix) else None

    def _deinterlace(self) -> Deinterlace:
        return "flagged" if self.interlaced else self.fields.order()

    def index(self, source_digest: str) -> VideoIndex:
        facts, (width, height, pix_fmt) = self.facts, self.picture or (0, 0, "")
        pts = self.times.pts
        steps = np.diff(np.asarray(pts))
        last = self.last_duration or (int(steps[-1]) if len(steps) else 0) or 1
        keys = np.unique(np.asarray(self.keys, dtype=np.int64).reshape(-1, 2), axis=0)
        treatment = self._treatment()
        aspect = facts.geometry.sample_aspect_ratio
        geometry = Geometry(width, height, aspect, self.first.display_matrix)
        return VideoIndex(
            source_digest=source_digest,
            container=facts.container,
            stream=facts.stream,
            streams=facts.streams,
            codec=facts.codec,
            pix_fmt=turned_format(pix_fmt) if treatment.turn else pix_fmt,
            bit_depth=self.bit_depth,
            time_base=self.times.time_base,
            average_rate=self._rate(),
            pts=pts,
            durations=Integers(np.append(steps, last)),
            frame_hashes=Hashes(self.hashes),
            key_pts=Integers(keys[:, 0]),
            key_dts=Integers(keys[:, 1]),
            cuts=self.scenes.cuts(),
            looks=self.scenes.looks(),
            colour=self.colour,
            geometry=turned_geometry(geometry) if treatment.turn else geometry,
            interlaced_frames=self.interlaced,
            decode_errors=self.count.errors,
            warnings=warnings_of(self._oddities(), treatment, self.policy.assume_fps),
            hdr=self.first.hdr,
            field_order=facts.field_order,
            treatment=treatment,
        )

    def _rate(self) -> Fraction:
        if not self.times.rebuilt and self.facts.average_rate > 0:
            return self.facts.average_rate
        pts = self.times.pts
        span = (pts[-1] - pts[0]) * self.times.time_base
        return (len(pts) - 1) / span if span > 0 else Fraction(25)

    def _stated_rate(self) -> Fraction:
        return self.facts.average_rate if self.facts.average_rate > 0 else Fraction(25)

    def _oddities(self) -> Oddities:
        return Oddities(
            facts=self.facts,
            errors=self.count.errors,
            corrupt=self.count.corrupt,
            pts=self.times.pts,
            time_base=self.times.time_base,
            rebuilt=self.times.rebuilt,
            missing=len(self.untimed),
            torn_packets=self.torn_packets,
            packet_pts=Integers(self.packet_pts),
            before_key=Integers(self.before_key),
            resized=tuple(self.resized),
            hdr=self._hdr_name,
            interlaced=self.interlaced,
            alpha=self.alpha,
            fields=tuple(self.fields.warnings()),
            side_data=tuple(self.dropped_side_data),
        )

    def _refuse(self, code: str, why: str, **facts: int) -> NoReturn:
        raise SourceError(f"{self.uri} {why}.", code=code, uri=self.uri, **facts)


@dataclass(frozen=True)
class _Times:
    """Presentation times, and how many of them are not the file's own."""

    pts: Integers
    time_base: Fraction
    rebuilt: int


def _known(value: int, fallback: int) -> int:
    return value if value not in (0, 2) else fallback
