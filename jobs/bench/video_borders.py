"""`bench video`, borders: the quality of pictures at the border of two segments against those inside.

Every segment is closed and comes from its own encoder, so a border may show: rate control starts anew, and
the last pictures have no successor to be predicted from.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from av.video.frame import VideoFrame

from jobs.bench import video_plain as plain
from jobs.bench.video_colour import planes
from pipeline.settings import EncodeSettings
from pipeline.video.encode import encode_source_segment
from pipeline.video.types import VideoIndex

CODECS = ("libx264", "libx265", "libsvtav1")
CRF = 18


@dataclass(frozen=True)
class Borders:
    """PSNR in dB by place in a segment, and the mean steps |PSNR[i] - PSNR[i - 1]| across and inside."""

    first: float
    last: float
    inside: float
    jump_across: float
    jump_inside: float


def border_rows(
    clip: str, frames: Sequence[VideoFrame], index: VideoIndex, gop: int, preset: str
) -> tuple[dict[str, Any], ...]:
    """One row per codec, PSNR of luma in dB. ``frames``: decoded ones, more than one segment of ``gop``.

    ``jump``: mean step of PSNR from one frame to the next across borders, ``jump_in``: inside segments;
    ``one_gop`` and ``bytes_ratio``: mean PSNR, and bytes over those, of all frames as one group of pictures.
    """
    return tuple(_row(clip, codec, frames, index, gop, preset) for codec in CODECS)


def measure_borders(psnr: Sequence[float], gop: int) -> Borders:
    """Quality of frames by their place in segments of ``gop`` frames, of which the last may be shorter."""
    count = len(psnr)
    starts = list(range(0, count, gop))
    ends = [min(start + gop, count) - 1 for start in starts]
    steps = {i: abs(psnr[i] - psnr[i - 1]) for i in range(1, count)}
    across = [steps[i] for i in starts if i]
    within = [step for i, step in steps.items() if i % gop]
    inner = [psnr[i] for i in range(count) if i not in starts and i not in ends]
    return Borders(
        first=_mean([psnr[i] for i in starts]),
        last=_mean([psnr[i] for i in ends]),
        inside=_mean(inner),
        jump_across=_mean(across),
        jump_inside=_mean(within),
    )


def luma_psnr(made: VideoFrame, truth: VideoFrame) -> float:
    """Of one picture in dB, capped at 99."""
    bits = truth.format.components[0].bits
    error = float(np.mean((planes(made)[0].astype(np.float64) - planes(truth)[0]) ** 2))
    return 99.0 if error == 0 else 10 * math.log10((2**bits - 1) ** 2 / error)


def _row(
    clip: str, codec: str, frames: Sequence[VideoFrame], index: VideoIndex, gop: int, preset: str
) -> dict[str, Any]:
    settings = EncodeSettings(codec=codec, crf=CRF, preset=preset)
    count = len(frames)
    short = [gop] * (count // gop) + ([count % gop] if count % gop else [])
    with tempfile.TemporaryDirectory(prefix="reelweave-") as folder:
        cut, whole = (os.path.join(folder, name) for name in ("cut.mkv", "whole.mkv"))
        size = encode_source_segment(cut, frames, short, index, settings).size
        whole_size = encode_source_segment(whole, frames, [count], index, settings).size
        quality, whole_quality = (
            [luma_psnr(made, truth) for made, truth in zip(plain.decode(path), frames, strict=True)]
            for path in (cut, whole)
        )
    found = measure_borders(quality, gop)
    return {
        "clip": clip,
        "codec": codec,
        "first": round(found.first, 2),
        "last": round(found.last, 2),
        "inside": round(found.inside, 2),
        "jump": round(found.jump_across, 2),
        "jump_in": round(found.jump_inside, 2),
        "one_gop": round(_mean(whole_quality), 2),
        "bytes_ratio": round(size / whole_size, 3),
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
