"""V6 and V7: what an identity job did to the pictures, frame by frame against the source.

Measured with six real clips, x264, x265 and SVT-AV1 at crf 18, GOPs of 12 to 48 frames (spec S43): the last
frame of a group is up to 2.5 dB below the one before it, the first up to 1.2 dB below the one after it, no
frame is below 39 dB, and the mean is above 42 dB. A dip of more than `DIP_DB` at a segment's edge is worth a
warning; less than `FLOOR_DB` over a whole segment is not the source any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from av.video.frame import VideoFrame

from pipeline.errors import SourceError
from pipeline.video.types import Segment, VideoIndex

FLOOR_DB = 20.0
DIP_DB = 4.0
#: Above this no difference is seen, so that it counts as equal: decibels of nearly nothing jump wildly.
CAP_DB = 50.0


def lossless_problems(found: Sequence[int], planned: Sequence[int]) -> Iterator[str]:
    """V6: hashes of decoded frames against the index's own of the source."""
    if len(found) != len(planned):
        yield f"lossless: {len(found)} frames, {len(planned)} in the source"
    wrong = [i for i, (a, b) in enumerate(zip(found, planned, strict=False)) if a != b]
    if wrong:
        yield f"lossless encoding changed {len(wrong)} frames, the first is frame {wrong[0]}"


class LumaWatcher:
    """V7: luma error of every decoded frame against the source's, in one pass over both."""

    def __init__(self, source: Iterator[VideoFrame]) -> None:
        self._source = source
        self.errors: list[float] = []
        self.broken = ""

    def __call__(self, frame: VideoFrame) -> None:
        try:
            original = next(self._source, None)
        except SourceError as error:
            self.broken, original = str(error), None
        if original is not None:
            self.errors.append(float(np.mean((_luma(frame) - _luma(original)) ** 2)))


@dataclass(frozen=True)
class Quality:
    """Luma PSNR in dB (at most `CAP_DB`): of each segment, the worst of them, and of frames at the edges
    of segments minus their neighbour inside (negative: worse)."""

    segments: tuple[float, ...]
    worst_dip: float
    dips: tuple[int, ...]

    @property
    def worst(self) -> float:
        """PSNR of the worst segment."""
        return min(self.segments, default=CAP_DB)

    def problems(self) -> Iterator[str]:
        """Segments that cannot be the source's pictures."""
        for number, psnr in enumerate(self.segments):
            if psnr < FLOOR_DB:
                yield f"segment {number} is {psnr:.1f} dB (luma PSNR) from the source, less than {FLOOR_DB:g}"

    def warnings(self) -> Iterator[str]:
        """Visible pumping at the edges of segments."""
        if self.dips:
            yield (
                f"quality_dip: {len(self.dips)} frames at segment edges are up to {-self.worst_dip:.1f} dB "
                f"below their neighbours, first frame {self.dips[0]}"
            )


def sum_up(errors: Sequence[float], segments: Sequence[Segment]) -> Quality:
    """Quality from the squared luma errors (on [0, 1]) of all frames."""
    psnr, totals, dips, worst = [_psnr(e) for e in errors], [], [], 0.0
    start = 0
    for segment in segments:
        end = min(start + segment.frames, len(psnr))
        if start < end:
            totals.append(round(_psnr(float(np.mean(errors[start:end]))), 2))
        for edge, inside in ((start, start + 1), (end - 1, end - 2)):
            if end - start >= 3:
                fall = psnr[edge] - psnr[inside]
                worst = min(worst, fall)
                dips += [edge] if fall < -DIP_DB else []
        start = end
    return Quality(tuple(totals), round(worst, 2), tuple(dips))


def comparable(index: VideoIndex, segment: Segment) -> str:
    """Why frames of the segment cannot be compared with the source's; empty when they can."""
    if (segment.width, segment.height) != (index.geometry.width, index.geometry.height):
        return "pictures have another size"
    if segment.pix_fmt != index.pix_fmt.replace("yuvj", "yuv"):
        return "pixel format changed"
    return ""


def _psnr(error: float) -> float:
    return float(min(CAP_DB, -10 * np.log10(max(error, 1e-12))))


def _luma(frame: VideoFrame) -> np.ndarray:
    """First plane on [0, 1]; of a packed or RGB picture whatever its first plane holds."""
    plane: Any = frame.planes[0]
    component = frame.format.components[0]
    deep = component.bits > 8
    codes = np.frombuffer(plane, "<u2" if deep else np.uint8).reshape(plane.height, -1)
    return codes[:, : plane.width].astype(np.float32) / np.float32(2**component.bits - 1)
