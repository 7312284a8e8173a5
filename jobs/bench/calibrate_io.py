"""Decoding and encoding of bare frames, timed as jobs do them."""

from __future__ import annotations

import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
from av.video.frame import VideoFrame

from jobs.render import Frames
from pipeline.settings import JobSettings, Limits
from pipeline.video.encode import encode_rgb_segment
from pipeline.video.index import build_index
from pipeline.video.rgb import decode_rgb


def timed_io(source: Frames, made: Frames, settings: JobSettings) -> dict[str, float]:
    """Seconds to decode a file that holds ``source`` to RGB, and to encode ``made`` with the job's encoder,
    both uint8 [n, h, w, 3] of even sides, in that order."""
    with tempfile.TemporaryDirectory(prefix="reelweave-calibrate-") as name:
        path = str(Path(name, "source.mp4"))
        _write(path, source)
        index = build_index(path, path, Limits(), "", settings.video)
        begun = time.perf_counter()
        decode_rgb(path, index, range(index.frames))
        decoded = time.perf_counter()
        encode_rgb_segment(str(Path(name, "segment.mkv")), made, [len(made)], index, settings.encode)
        return {"decode": decoded - begun, "encode": time.perf_counter() - decoded}


def _write(path: str, frames: Frames) -> None:
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=25)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        context.time_base, context.thread_count = Fraction(1, 25), 1
        for at, picture in enumerate(frames):
            frame = VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
