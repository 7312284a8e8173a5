"""`bench video`, colour: what a picture loses on the way YUV -> RGB -> YUV, by our path and PyAV's default.

The starting point is decoded YUV, which holds codes that no RGB has; a picture that had come from RGB already
would flatter both paths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from jobs.bench.result import Target
from pipeline.video.colour import FULL, LIMITED, convert_frame, frame_to_rgb, rgb_to_frame
from pipeline.video.types import Colour

Plane = NDArray[Any]

GENERATIONS = 10
#: Codes of the format's own depth: mean absolute luma error after one generation, mean shift after ten.
ALLOWED_ERROR, ALLOWED_DRIFT = 0.05, 0.1
_MATRICES = {"BT.601": 6, "BT.709": 1, "BT.2020": 9}
_SEED = 1931


@dataclass(frozen=True)
class Tags:
    """A pixel format with the matrix and range that its codes are meant in."""

    name: str
    pix_fmt: str
    matrix: int
    range: int

    @property
    def bits(self) -> int:
        """Bits of a sample."""
        return 10 if self.pix_fmt.endswith("10le") else 8

    @property
    def colour(self) -> Colour:
        """As an index would give it."""
        return Colour(self.matrix, self.range, self.matrix if self.matrix != 6 else 2, 2, "source", "source")


@dataclass(frozen=True)
class Loss:
    """``mean`` and ``worst`` absolute luma error and mean ``shift`` in codes; ``chroma_psnr`` in dB."""

    mean: float
    worst: float
    shift: float
    chroma_psnr: float


def all_tags() -> tuple[Tags, ...]:
    """8-bit 4:2:0 of three matrices and both ranges, 10-bit 4:2:0, 4:4:4 of 8 and 10 bits."""
    ranges = {"limited": LIMITED, "full": FULL}
    eight = [
        Tags(f"{matrix} {name}", "yuv420p", code, value)
        for matrix, code in _MATRICES.items() for name, value in ranges.items()
    ]  # fmt: skip
    deep = [Tags(f"{m} limited", "yuv420p10le", _MATRICES[m], LIMITED) for m in ("BT.709", "BT.2020")]
    whole = [Tags("BT.709 limited", f, 1, LIMITED) for f in ("yuv444p", "yuv444p10le")]
    return (*eight, *deep, *whole)


def colour_rows(pictures: Sequence[VideoFrame]) -> tuple[tuple[dict[str, Any], ...], ...]:
    """One row per kind of picture and number of generations, over all ``pictures`` (limited yuv420p): of our
    path, and of PyAV's default."""
    rows: tuple[list[dict[str, Any]], ...] = ([], [])
    for tags in all_tags():
        sources = [retagged(picture, tags) for picture in pictures]
        for table, trip in zip(rows, (our_trip, default_trip), strict=True):
            chains = [list(_generations(source, tags, trip)) for source in sources]
            for n in (1, GENERATIONS):
                pairs = zip(sources, chains, strict=True)
                losses = [loss(source, chain[n - 1], tags.bits) for source, chain in pairs]
                table.append(_row(tags, n, _together(losses)))
    return tuple(map(tuple, rows))


def colour_targets(rows: Sequence[dict[str, Any]]) -> list[Target]:
    """Over all rows: the allowed luma error over the worst one, and the allowed shift over the worst one."""
    error = max(row["mean"] for row in rows if row["generations"] == 1)
    drift = max(abs(row["shift"]) for row in rows if row["generations"] == GENERATIONS)
    return [
        Target("0.05 codes over the worst mean luma error of a generation", _over(ALLOWED_ERROR, error), 1.0),
        Target("0.1 codes over the worst luma shift of ten generations", _over(ALLOWED_DRIFT, drift), 1.0),
    ]


def retagged(picture: VideoFrame, tags: Tags) -> VideoFrame:
    """The picture's codes carried over to another format, range and depth without passing through RGB.

    Codes are spread over the new scale, with noise below the last bit where the new one is finer: otherwise
    only every fourth code of ten bits would occur.
    """
    draws = np.random.default_rng(_SEED)
    if "444" in tags.pix_fmt:
        picture = convert_frame(picture, Colour(1, LIMITED, 2, 2, "source", "source"), "yuv444p")
    made = VideoFrame(picture.width, picture.height, tags.pix_fmt)
    for i, codes in enumerate(planes(picture)):
        zero, span = (16.0, 219.0) if i == 0 else (128.0, 224.0)
        unit = (codes.astype(np.float64) + draws.uniform(-0.5, 0.5, codes.shape) - zero) / span
        peak, scale = 2**tags.bits - 1, 2.0 ** (tags.bits - 8)
        black = 0.0 if tags.range == FULL else 16 * scale
        new_span = peak if tags.range == FULL else span * scale
        new_zero = black if i == 0 else 128 * scale
        planes(made)[i][:] = np.clip(np.rint(unit * new_span + new_zero), 0, peak)
    return _tagged(made, tags)


def our_trip(frame: VideoFrame, tags: Tags, reformatter: VideoReformatter) -> VideoFrame:
    """There and back by pipeline.video.colour."""
    rgb = frame_to_rgb(frame, tags.colour, tags.bits, reformatter)
    return rgb_to_frame(rgb, tags.colour, tags.pix_fmt, reformatter)


def default_trip(frame: VideoFrame, tags: Tags, reformatter: VideoReformatter) -> VideoFrame:
    """There and back as in most scripts: to_ndarray of a tagged frame, from_ndarray, reformat."""
    rgb = VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), "rgb24")
    return _tagged(rgb.reformat(format=tags.pix_fmt), tags)


def loss(source: VideoFrame, made: VideoFrame, bits: int) -> Loss:
    """What ``made`` differs by from ``source``, of one format."""
    before, after = planes(source), planes(made)
    luma = after[0].astype(np.int32) - before[0]
    chroma = [a.astype(np.float64) - b for a, b in zip(after[1:], before[1:], strict=True)]
    square = float(np.mean([np.mean(difference**2) for difference in chroma]))
    return Loss(
        mean=float(np.abs(luma).mean()),
        worst=float(np.abs(luma).max()),
        shift=float(luma.mean()),
        chroma_psnr=10 * math.log10((2**bits - 1) ** 2 / max(square, 1e-10)),
    )


def planes(frame: VideoFrame) -> list[Plane]:
    """Samples of each plane as writable views [rows, columns], without padding."""
    kind, size = (np.uint8, 1) if frame.format.components[0].bits <= 8 else (np.uint16, 2)
    views = []
    for plane in frame.planes:
        buffer: Any = plane
        rows = np.frombuffer(buffer, kind).reshape(plane.height, plane.line_size // size)
        views.append(rows[:, : plane.width])
    return views


def _generations(
    frame: VideoFrame, tags: Tags, trip: Callable[[VideoFrame, Tags, VideoReformatter], VideoFrame]
) -> Iterator[VideoFrame]:
    reformatter = VideoReformatter()
    for _ in range(GENERATIONS):
        frame = trip(frame, tags, reformatter)
        yield frame


def _tagged(frame: VideoFrame, tags: Tags) -> VideoFrame:
    frame.colorspace, frame.color_range = tags.matrix, tags.range
    return frame


def _together(losses: Sequence[Loss]) -> Loss:
    count = len(losses)
    return Loss(
        mean=sum(one.mean for one in losses) / count,
        worst=max(one.worst for one in losses),
        shift=sum(one.shift for one in losses) / count,
        chroma_psnr=sum(one.chroma_psnr for one in losses) / count,
    )


def _row(tags: Tags, generations: int, found: Loss) -> dict[str, Any]:
    return {
        "picture": tags.name,
        "format": tags.pix_fmt,
        "generations": generations,
        "mean": round(found.mean, 4),
        "max": round(found.worst),
        "shift": round(found.shift, 4),
        "chroma_db": round(found.chroma_psnr, 2),
    }


def _over(allowed: float, found: float) -> float:
    return round(allowed / max(found, 1e-6), 3)
