"""Stretches of consecutive frames of a video, small, for figures along its length."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from jobs.frames import Rgb
from pipeline.settings import Limits

if TYPE_CHECKING:
    from pipeline.video.types import Probe

#: Longer side of the pictures that are measured, in pixels.
SIDE = 192
_SPAN = 24
_NO_LIMITS = Limits(max_pixels=2**31 - 1, max_frames=2**62, max_seconds=1e12)


@dataclass(frozen=True)
class Clip:
    """A local video: what probing says of it, and the times of its frames in order, in its time base."""

    path: str
    facts: Probe
    times: tuple[int, ...]

    def seconds(self, ordinal: int) -> float:
        """When a frame is shown."""
        return float(self.times[ordinal] * self.facts.time_base)

    @property
    def seconds_per_frame(self) -> float:
        """On the average."""
        return (self.seconds(-1) - self.seconds(0)) / max(1, len(self.times) - 1) if self.times else 0.0


def open_clip(path: str) -> Clip:
    """Times are those of the packets; nothing is decoded. Raises SourceError for what is no video."""
    from pipeline.video.opening import DecodeCount, demux, open_media
    from pipeline.video.probe import probe, video_stream

    facts = probe(path, path, _NO_LIMITS)
    with open_media(path, _NO_LIMITS.max_pixels) as container:
        packets = demux(container, video_stream(container, facts.stream), DecodeCount())
        times = sorted(packet.pts for packet in packets if packet.size and packet.pts is not None)
    return Clip(path, facts, tuple(times))


def spans_of(frames: int, wanted: int) -> list[range]:
    """About ``wanted`` frames in stretches of `_SPAN`, evenly laid over the video; all of a short one."""
    if frames <= wanted:
        return [range(frames)] if frames else []
    number = max(1, wanted // _SPAN)
    share = frames // number
    firsts = [at * frames // number + max(0, share - _SPAN) // 2 for at in range(number)]
    return [range(first, min(frames, first + _SPAN)) for first in firsts]


def read_span(clip: Clip, span: Sequence[int], size: tuple[int, int] | None = None) -> dict[int, Rgb]:
    """Frames by ordinal, upright RGB uint8 [h, w, 3], ``size`` (w, h) or at most `SIDE` pixels long.

    Those that seeking does not reach are missing.
    """
    first, last = clip.times[span[0]], clip.times[span[-1]]
    found: dict[int, Rgb] = {}
    for pts, rgb in decoded(clip, first, last):
        ordinal = bisect.bisect_left(clip.times, pts)
        if ordinal < len(clip.times) and clip.times[ordinal] == pts:
            found[ordinal] = _reduced(rgb, size)
    return found


def decoded(clip: Clip, first: int, last: int) -> Iterator[tuple[int, Rgb]]:
    """Time and upright picture, RGB uint8 [h, w, 3], of the frames shown from ``first`` to ``last``, both in
    the clip's time base; one frame is held. Nothing where the file cannot be sought in."""
    from av.error import FFmpegError

    from pipeline.video.colour import frame_to_rgb
    from pipeline.video.geometry import upright
    from pipeline.video.opening import DecodeCount, Decoder, decode_stream, open_media
    from pipeline.video.probe import video_stream
    from pipeline.video.side_data import read_first_frame

    facts = clip.facts
    with open_media(clip.path, _NO_LIMITS.max_pixels) as container:
        stream = video_stream(container, facts.stream)
        if first > clip.times[0]:
            try:
                container.seek(first, stream=stream)
            except FFmpegError:
                return
        for frame in decode_stream(container, stream, Decoder(stream), DecodeCount()):
            if frame.pts is None or frame.pts < first:
                continue
            if frame.pts > last:
                return
            rgb = frame_to_rgb(frame, facts.colour, facts.bit_depth)
            rgb = upright(rgb, read_first_frame(frame).display_matrix)
            yield frame.pts, rgb if rgb.dtype == np.uint8 else (rgb >> 8).astype(np.uint8)


def _reduced(rgb: Rgb, size: tuple[int, int] | None) -> Rgb:
    import cv2

    height, width = rgb.shape[:2]
    if size is None:
        share = min(Fraction(1), Fraction(SIDE, max(height, width)))
        size = max(1, round(width * share)), max(1, round(height * share))
    if size == (width, height):
        return rgb
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
