"""One output file from encoded segments and everything else the source carries.

Segments are read one at a time. Frame times come from the index alone, decoding times are made
anew over the whole file, and the other streams are copied from the source.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet

from pipeline.errors import ChunkError, SourceError
from pipeline.settings import EncodeSettings
from pipeline.video.carry import MUXERS, Carried, carried_packets, carry_stream, clean_tags, packet_seconds
from pipeline.video.encoders import HDR_ENCODERS
from pipeline.video.geometry import is_rotation, scaled_matrix, scaled_sar
from pipeline.video.integers import Integers
from pipeline.video.opening import has_hidden_alpha, open_media
from pipeline.video.probe import video_stream
from pipeline.video.timestamps import decode_times, reorder_delay
from pipeline.video.types import Assembly, Segment, VideoIndex

_ANY_SIZE = 2**31 - 1
_FINEST_TIMESCALE = 2**31 - 1
_COARSEST_TIMESCALE = 90_000


def assemble(
    source_path: str,
    index: VideoIndex,
    segment_paths: Sequence[str],
    segments: Sequence[Segment],
    out_path: str,
    container: str,
    settings: EncodeSettings,
    tags: Mapping[str, str] | None = None,
) -> Assembly:
    """Join segments into a finished file.

    Args:
        source_path: local source file, from which the other streams are copied.
        segment_paths: all segment files in order, and ``segments`` what they hold: together
            ``index.frames`` frames.
        out_path: local file to write. ``container``: ``mp4``, ``mkv``, ``webm`` or ``mov``.
        tags: of the file, besides the source's.

    Raises:
        ChunkError: ``segment_mismatch``, when segments do not hold the frames of the index or have
            different headers.
        SourceError: ``assembly_failed``, when the muxer refuses.
    """
    if container not in MUXERS:
        raise ValueError(f"container must be one of {', '.join(MUXERS)}, not {container!r}")
    ranks = _whole_ranks(segments, index)
    try:
        with open_media(source_path, _ANY_SIZE) as source:
            job = _Assembling(source, index, segment_paths, container, settings, ranks)
            return job.write(out_path, tags or {})
    except (FFmpegError, OSError) as error:
        raise SourceError(
            f"The {container} file could not be put together ({error}); try encode.container: mkv.",
            code="assembly_failed",
        ) from error


class _Assembling:
    def __init__(
        self,
        source: InputContainer,
        index: VideoIndex,
        segment_paths: Sequence[str],
        container: str,
        settings: EncodeSettings,
        ranks: Integers,
    ) -> None:
        self.source, self.index, self.container = source, index, container
        self.segment_paths, self.ranks = segment_paths, ranks
        self.warnings: list[str] = []
        self.dropped: list[str] = []
        self.carried: list[Carried] = []
        self.moved: dict[int, int] = {}
        # MP4 players discard what is shown before time zero.
        self.shift = max(Fraction(0), -index.pts[0] * index.time_base)
        if self.shift:
            self.warnings.append(f"times_shifted: all streams start {float(self.shift):.6f} s later")

        if index.hdr is not None and settings.codec not in HDR_ENCODERS:
            self.warnings.append(f"hdr_metadata_dropped: {settings.codec} cannot store mastering metadata")
        woven = index.interlaced_frames and not index.treatment.deinterlace
        if woven and settings.codec != "libx264":
            self.warnings.append(f"interlacing_not_flagged: {settings.codec} stores the woven pictures only")
        matrix = index.geometry.display_matrix
        if container in ("mkv", "webm") and matrix is not None and not is_rotation(matrix):
            self.warnings.append(f"display_matrix_dropped: {container} stores turns by right angles only")

    def write(self, out_path: str, tags: Mapping[str, str]) -> Assembly:
        options = {"fflags": "+bitexact", **self._muxer_options()}
        with (
            _open_segment(self.segment_paths[0], probe=True) as first,
            av.open(out_path, "w", format=MUXERS[self.container], container_options=options) as out,
        ):
            target = self._add_streams(out, first)
            out.metadata.update({**clean_tags(self.source.metadata), **tags})
            out.set_chapters(self.source.chapters())
            out.start_encoding()
            video = self._video_packets(target, first)
            others = carried_packets(self.source, self.carried, self.warnings)
            for packet in heapq.merge(video, self._shifted(others), key=packet_seconds):
                out.mux_one(packet)
            for copy, packets in self.moved.items():
                self.warnings.append(f"copied_times_moved: {packets} packets of stream {copy}")
            return self._summary(target.index)

    def _summary(self, stream: int) -> Assembly:
        # MP4 leaves tracks without samples out, and numbers the others anew.
        empty = [c for c in self.carried if c.packets == 0] if self.container in ("mp4", "mov") else []
        gone = [c.target.index for c in empty]
        for c in empty:
            self.dropped.append(f"stream {c.source.index} {c.source.type}: it has no packets")
        kept = [(c.source.index, c.target.index) for c in self.carried if c not in empty]
        return Assembly(
            container=self.container,
            dropped_streams=tuple(self.dropped),
            warnings=tuple(self.warnings),
            stream=stream - sum(index < stream for index in gone),
            copied=tuple((source, copy - sum(index < copy for index in gone)) for source, copy in kept),
            shift=self.shift,
        )

    def _muxer_options(self) -> dict[str, str]:
        if self.container not in ("mp4", "mov"):
            return {}
        den = self.index.time_base.denominator
        rates = [s.codec_context.sample_rate for s in self.source.streams.audio if s.codec_context]
        # Edit lists are counted in the movie's clock: one that holds all clocks rounds nothing.
        movie = math.lcm(den, *(r for r in rates if r))
        if movie > _FINEST_TIMESCALE:
            movie = den
        movie *= math.ceil(_COARSEST_TIMESCALE / movie)
        return {"movie_timescale": str(movie), "video_track_timescale": str(den),
                "movflags": "+faststart+write_colr"}  # fmt: skip

    def _add_streams(self, out: OutputContainer, first: InputContainer) -> Any:
        target = None
        for summary in self.index.streams:
            if summary.index == self.index.stream:
                target = self._add_video(out, first)
                continue
            carried, dropped = carry_stream(self.source, out, self.container, summary, self.index)
            if carried is not None:
                self.carried.append(carried)
            if dropped is not None:
                self.dropped.append(dropped)
        return target

    def _add_video(self, out: OutputContainer, first: InputContainer) -> Any:
        encoded: Any = first.streams.video[0]
        target: Any = out.add_stream_from_template(encoded, opaque=True)
        context = target.codec_context
        hidden = has_hidden_alpha(encoded)
        made = encoded.pix_fmt.replace("yuv", "yuva", 1) if hidden else encoded.pix_fmt
        was, now = (fmt.replace("yuvj", "yuv") for fmt in (self.index.pix_fmt, made))
        if was != now:
            self.warnings.append(f"pixel_format_changed: {was} became {now}")
        if encoded.codec_context.codec.canonical_name == "hevc" and self.container in ("mp4", "mov"):
            context.codec_tag = "hvc1"
        # A segment's own container rounds the aspect ratio and knows neither rate nor clock.
        context.sample_aspect_ratio = scaled_sar(self.index.geometry, encoded.width, encoded.height)
        context.framerate = self.index.average_rate.limit_denominator(1_000_000)
        target.time_base = Fraction(1, self.index.time_base.denominator)
        source = video_stream(self.source, self.index.stream)
        tags = {k: v for k, v in clean_tags(source.metadata).items() if k.lower() != "alpha_mode"}
        if hidden:
            tags["alpha_mode"] = "1"
        target.metadata.update(tags)
        target.disposition = source.disposition
        target.set_display_matrix(scaled_matrix(self.index.geometry, encoded.width, encoded.height))
        return target

    def _video_packets(self, target: Any, first: InputContainer) -> Iterator[Packet[Any]]:
        """Packets of all segments, of which ``first`` is open already, in decode order with their final
        times."""
        index = self.index
        ticks = index.time_base.numerator
        offset = int(self.shift * index.time_base.denominator)
        pts = Integers(p * ticks + offset for p in index.pts)
        dts = Integers(decode_times(pts, reorder_delay(self.ranks)))
        extradata = first.streams.video[0].codec_context.extradata
        clock = Fraction(1, index.time_base.denominator)
        at, last = 0, index.frames - 1
        for n, path in enumerate(self.segment_paths):
            with nullcontext(first) if n == 0 else _open_segment(path) as segment:
                stream = segment.streams.video[0]
                if stream.codec_context.extradata != extradata:
                    raise _mismatch(f"{path} has other codec headers than the first segment")
                for packet in segment.demux(stream):
                    if packet.size == 0:
                        continue
                    if at == index.frames:
                        raise _mismatch(f"{path} holds more frames than were encoded")
                    rank = self.ranks[at]
                    packet.stream = target
                    packet.time_base = clock
                    packet.pts, packet.dts = pts[rank], dts[at]
                    packet.duration = index.durations[rank] * ticks
                    if at == last and rank != last and self.container in ("mp4", "mov"):
                        # MP4 keeps distances of decoding times, no durations: their sum has to reach the
                        # end of the frame shown last, which is not the one decoded last.
                        shown = pts[last] + index.durations[last] * ticks - pts[0]
                        packet.duration = max(packet.duration, shown + dts[0] - dts[at])
                    yield packet
                    at += 1
        if at != index.frames:
            raise _mismatch(f"the segment files hold {at} frames, {index.frames} were encoded")

    def _shifted(self, packets: Iterator[Packet[Any]]) -> Iterator[Packet[Any]]:
        last: dict[int, int] = {}
        for packet in packets:
            if self.shift:
                offset = round(self.shift / Fraction(packet.time_base))
                packet.pts = None if packet.pts is None else packet.pts + offset
                packet.dts = None if packet.dts is None else packet.dts + offset
            yield self._in_order(packet, last)

    def _in_order(self, packet: Packet[Any], last: dict[int, int]) -> Packet[Any]:
        """Program streams repeat decoding times, which no muxer takes: those move on by one tick."""
        target: Any = packet.stream
        if packet.dts is None:
            return packet
        tick = Fraction(target.time_base)
        if Fraction(packet.time_base) != tick:
            packet.rescale_ts(av.AVRational(tick.numerator, tick.denominator))
        late = last.get(target.index, packet.dts - 1) + 1 - packet.dts
        if late > 0:
            packet.dts += late
            packet.pts = None if packet.pts is None else max(packet.pts, packet.dts)
            self.moved[target.index] = self.moved.get(target.index, 0) + 1
        last[target.index] = packet.dts
        return packet


def _open_segment(path: str, *, probe: bool = False) -> AbstractContextManager[Any]:
    """Open a segment for its packets and headers only.

    ``probe``: let FFmpeg decode pictures to find what the container does not say, its default; that takes
    longer than copying the packets. A list of codecs with none on it keeps it from that.
    """
    options = {} if probe else {"codec_whitelist": "none", "probesize": "32", "fpsprobesize": "0"}
    try:
        return av.open(path, format="matroska", options=options)
    except (FFmpegError, OSError) as error:
        raise _mismatch(f"{path} cannot be read ({type(error).__name__})") from error


def _whole_ranks(segments: Sequence[Segment], index: VideoIndex) -> Integers:
    """Presentation rank in the whole video of every packet, in the order of the files."""
    ranks = array("q")
    for segment in segments:
        before = len(ranks)
        ranks.extend(before + rank for rank in segment.ranks)
    if len(ranks) != index.frames:
        raise _mismatch(f"{len(segments)} segments hold {len(ranks)} frames, the source {index.frames}")
    return Integers(ranks)


def _mismatch(why: str) -> ChunkError:
    return ChunkError(
        f"The encoded segments do not fit together: {why}; delete them and run again.",
        code="segment_mismatch",
    )
