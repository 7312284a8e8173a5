"""Films with known damage, written without loss."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame


def write_film(path: Path, frames: np.ndarray) -> str:
    """uint8 RGB [N, H, W, 3] as FFV1 in Matroska, 25 frames per second."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.height, video.width, video.pix_fmt = *frames.shape[1:3], "yuv444p"
        for i, picture in enumerate(frames):
            frame = VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv444p")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return str(path)
