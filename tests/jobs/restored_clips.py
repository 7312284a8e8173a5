"""A small clip whose undamaged truth is known, damaged by the operators themselves, for jobs to restore."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from operators.degradations.registry import build_operator
from operators.pictures import to_pictures

#: Variable: a frame is held in the middle.
PTS = (0, 1, 2, 4, 5, 6)
RATE = 25


def truth(frames: int = len(PTS), side: int = 64) -> torch.Tensor:
    """Smooth colours with a hard-edged square that moves, [frames, 3, side, side] in [-1, 1]."""
    coarse = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(7))
    x = torch.nn.functional.interpolate(coarse, side, mode="bicubic").clamp(0, 1).repeat(frames, 1, 1, 1)
    for n in range(frames):
        x[n, :, 20:34, 8 + 2 * n : 36 + 2 * n] = coarse[0, :, :1, :1]
    return x * 1.6 - 0.8


def damaged(x: torch.Tensor, degradation: dict[str, Any]) -> np.ndarray:
    """What ``degradation`` measures of ``x``, as pictures uint8 [n, h, w, 3]."""
    operator = build_operator(degradation, *x.shape[2:], {})
    y = operator.simulate(x, [("clip", n) for n in range(len(x))])
    return to_pictures(y, np.dtype(np.uint8))


def write_clip(path: Path, pictures: np.ndarray) -> Path:
    """A lossless clip of uint8 RGB ``pictures`` shown at `PTS`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as made:
        stream = made.add_stream("ffv1", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = pictures.shape[2], pictures.shape[1], "bgr0"
        for pts, rgb in zip(PTS, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = pts, Fraction(1, RATE)
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    return path
