"""Pictures for reports: single frames of a video at given times, small and ready to embed."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.settings import Limits

if TYPE_CHECKING:
    from pipeline.video.types import Probe

Rgb = NDArray[np.uint8]
# Containers with millisecond times may round a timestamp by half of one.
_ROUNDING = Fraction(2, 1000)
_NO_LIMITS = Limits(max_pixels=2**31 - 1, max_frames=2**62, max_seconds=1e12)


@dataclass(frozen=True)
class Shot:
    """One frame: its presentation time in seconds and its picture, RGB [h, w, 3] uint8."""

    seconds: Fraction
    rgb: Rgb


def shots_at_shares(path: str, shares: Sequence[float]) -> list[Shot]:
    """Frames at shares (0 to 1) of a video's length. Raises SourceError when nothing decodes."""
    from pipeline.video.opening import open_media
    from pipeline.video.probe import probe, video_stream

    facts = probe(path, path, _NO_LIMITS)
    with open_media(path, _NO_LIMITS.max_pixels) as container:
        stream = video_stream(container, facts.stream)
        length = Fraction(container.duration or 0, 1_000_000)
        if stream.duration is not None:
            length = stream.duration * facts.time_base
        start = (stream.start_time or 0) * facts.time_base
    return shots_at(path, [start + Fraction(share) * length for share in shares])


def shots_at(path: str, times: Sequence[Fraction]) -> list[Shot]:
    """The first frame at or after each time, or the last one. Raises SourceError when nothing decodes."""
    from av.error import FFmpegError

    from pipeline.video.probe import probe

    facts = probe(path, path, _NO_LIMITS)
    try:
        return [_shot(path, facts, time) for time in times]
    except (FFmpegError, OSError) as error:
        raise SourceError(f"{path}: cannot be read ({type(error).__name__})", code="unreadable") from error


def _shot(path: str, facts: Probe, time: Fraction) -> Shot:
    """Seek, and read from the start where seeking overshoots or fails."""
    found = _read(path, facts, time, seek=True)
    if found is None or found.seconds > time + _ROUNDING:
        found = _read(path, facts, time, seek=False) or found
    if found is None:
        raise SourceError(f"{path}: no frame could be decoded", code="no_frames")
    return found


def _read(path: str, facts: Probe, time: Fraction, *, seek: bool) -> Shot | None:
    from av.error import FFmpegError

    from pipeline.video.colour import frame_to_rgb
    from pipeline.video.geometry import upright
    from pipeline.video.opening import DecodeCount, Decoder, decode_stream, open_media
    from pipeline.video.probe import video_stream
    from pipeline.video.side_data import read_first_frame

    with open_media(path, _NO_LIMITS.max_pixels) as container:
        stream = video_stream(container, facts.stream)
        if seek:
            try:
                container.seek(int(time / facts.time_base), stream=stream)
            except FFmpegError:
                return None
        held = None
        for frame in decode_stream(container, stream, Decoder(stream), DecodeCount()):
            if frame.pts is not None:
                held = frame
                if frame.pts * facts.time_base >= time - _ROUNDING:
                    break
        if held is None or held.pts is None:
            return None
        rgb = frame_to_rgb(held, facts.colour, facts.bit_depth)
        rgb = upright(rgb, read_first_frame(held).display_matrix)
        return Shot(held.pts * facts.time_base, rgb if rgb.dtype == np.uint8 else (rgb >> 8).astype(np.uint8))


def jpeg_uri(rgb: Rgb, max_width: int = 640, quality: int = 90) -> str:
    """A ``data:`` URI of the picture as JPEG, reduced to ``max_width`` pixels if it is wider."""
    import cv2

    height, width = rgb.shape[:2]
    if width > max_width:
        size = (max_width, max(1, round(height * max_width / width)))
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    made, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not made:
        raise ValueError("the picture could not be written as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
