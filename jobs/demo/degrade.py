"""The demo's degraded clip: half the size by area averaging plus Gaussian noise; the truth is known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.settings import Limits

if TYPE_CHECKING:
    from pipeline.video.types import VideoIndex

SCALE = 2
NOISE = 0.05
_SEED = 2008
# As almost every real video; chroma halved once more is a loss the job's forward operator does not know.
_PIX_FMT = "yuv420p"

Clip = NDArray[np.uint8]


def read_clip(path: Path) -> tuple[VideoIndex, Clip]:
    """Index and all frames, RGB [n, h, w, 3] uint8, of a short clip. Raises SourceError."""
    from pipeline.keys import file_sha256
    from pipeline.video.index import build_index
    from pipeline.video.rgb import decode_rgb

    index = build_index(str(path), str(path), Limits(), file_sha256(path))
    return index, decode_rgb(str(path), index, range(index.frames))


def degrade(clip: Clip) -> Clip:
    """y = A x + n on [n, h, w, 3] uint8: area downscaling by SCALE and noise of NOISE on [0, 1]."""
    count, height, width, _ = clip.shape
    blocks = clip.reshape(count, height // SCALE, SCALE, width // SCALE, SCALE, 3)
    small = blocks.mean(axis=(2, 4), dtype=np.float64)
    noise = np.random.Generator(np.random.PCG64(_SEED)).standard_normal(small.shape)
    return np.round(np.clip(small + 255.0 * NOISE * noise, 0, 255)).astype(np.uint8)


def write_degraded(truth: Path, target: Path) -> None:
    """Write the degraded copy of ``truth``: nearly lossless H.264, times and tags kept, sound copied."""
    import av

    index, clip = read_clip(truth)
    small = degrade(clip)
    target.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(truth)) as given, av.open(str(target), "w") as made:
        video = _add_video(made, small.shape[2], small.shape[1], index)
        sounds = given.streams.audio[:1]
        copies = [made.add_stream_from_template(sound) for sound in sounds]
        for frame in _frames(small, index):
            made.mux(video.encode(frame))
        made.mux(video.encode(None))
        for sound, copy in zip(sounds, copies, strict=True):
            for packet in given.demux(sound):
                if packet.dts is not None:
                    packet.stream = copy
                    made.mux(packet)


def _add_video(made: Any, width: int, height: int, index: VideoIndex) -> Any:
    video = made.add_stream("libx264", rate=index.average_rate)
    video.width, video.height, video.pix_fmt = width, height, _PIX_FMT
    video.time_base = video.codec_context.time_base = index.time_base
    video.codec_context.color_primaries = index.colour.primaries
    video.codec_context.color_trc = index.colour.transfer
    video.codec_context.colorspace = index.colour.matrix
    video.codec_context.color_range = index.colour.range
    # One thread: the same bytes on every machine. x264's macroblock tree reads memory that it has not
    # written where the height is no multiple of 16, and bits then depend on what was there before.
    video.options = {"crf": "4", "preset": "medium", "threads": "1", "x264-params": "mbtree=0"}
    return video


def _frames(clip: Clip, index: VideoIndex) -> Iterator[Any]:
    from pipeline.video.colour import rgb_to_frame

    for rgb, pts in zip(clip, index.pts, strict=True):
        frame = rgb_to_frame(rgb, index.colour, _PIX_FMT)
        frame.pts, frame.time_base = pts, Fraction(index.time_base)
        yield frame


def bicubic(clip: Clip) -> Clip:
    """The baseline: every frame enlarged by SCALE with bicubic interpolation."""
    import cv2

    height, width = clip.shape[1] * SCALE, clip.shape[2] * SCALE
    return np.stack([cv2.resize(rgb, (width, height), interpolation=cv2.INTER_CUBIC) for rgb in clip])


def psnr(clip: Clip, truth: Clip) -> float:
    """Peak signal to noise ratio in dB over all pixels of all frames, RGB on [0, 255]."""
    error = float(np.mean((clip.astype(np.float64) - truth.astype(np.float64)) ** 2))
    return 10 * math.log10(255.0**2 / max(error, 1e-12))
