"""Clips made for `bench video`: shapes over a panned texture with grain, of any size and length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from av import open as open_media
from av.video.frame import VideoFrame
from numpy.typing import NDArray

Planes = NDArray[np.uint8]

RATE = 25
KEY_EVERY = 50
_GRAIN_CODES = 1.5
_MARGIN = 64


@dataclass(frozen=True)
class Moving:
    """What to draw. ``width`` is a multiple of 2 and ``height`` of 4; equal values give equal pictures."""

    width: int
    height: int
    frames: int
    seed: int = 0


def moving_pictures(clip: Moving) -> Iterator[Planes]:
    """Limited range 4:2:0 pictures, uint8 [h * 3 / 2, w] as PyAV lays yuv420p out."""
    draws = np.random.default_rng(clip.seed)
    height, width = clip.height, clip.width
    textures = [_texture(draws, h, w, low, high) for h, w, low, high in (
        (height, width, 40, 200), (height // 2, width // 2, 96, 160), (height // 2, width // 2, 96, 160),
    )]  # fmt: skip
    grain = draws.normal(0, _GRAIN_CODES, (height + _MARGIN, width + _MARGIN)).astype(np.float32)
    for i in range(clip.frames):
        # A triangle wave: the window never leaves the texture, however long the clip is.
        pan = _MARGIN - abs(i % (2 * _MARGIN) - _MARGIN)
        y, x = draws.integers(0, _MARGIN, 2)
        luma = _window(textures[0], pan, height, width) + grain[y : y + height, x : x + width]
        chroma = [_window(t, pan // 2, height // 2, width // 2).copy() for t in textures[1:]]
        _draw_discs(luma, chroma, i)
        planes = [np.clip(np.rint(plane), 16, 235).astype(np.uint8) for plane in (luma, *chroma)]
        yield np.concatenate([plane.reshape(-1, width) for plane in planes])


def write_moving(path: Path, clip: Moving) -> str:
    """Write the clip as BT.709 H.264, a key frame every KEY_EVERY frames; returns the path."""
    with open_media(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=RATE)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = clip.width, clip.height, "yuv420p"
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = 1, 1, 1, 1
        context.thread_count, context.time_base = 1, Fraction(1, RATE)
        keys = f"mbtree=0:scenecut=0:keyint={KEY_EVERY}"
        context.options = {"crf": "20", "preset": "veryfast", "x264-params": keys}
        for i, planes in enumerate(moving_pictures(clip)):
            frame = VideoFrame.from_ndarray(planes, "yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return str(path)


def _texture(
    draws: np.random.Generator, height: int, width: int, low: float, high: float
) -> NDArray[np.float32]:
    """Noise of three scales, [height + margin, width + margin], from ``low`` to ``high``."""
    size = (width + _MARGIN, height + _MARGIN)
    total = np.zeros(size[::-1], np.float32)
    for cell, weight in ((64, 1.0), (16, 0.5), (4, 0.2)):
        coarse = draws.random((size[1] // cell + 2, size[0] // cell + 2)).astype(np.float32)
        total += weight * cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    span = float(np.ptp(total)) or 1.0
    return np.asarray(low + (total - total.min()) * (high - low) / span, np.float32)


def _window(texture: NDArray[np.float32], pan: int, height: int, width: int) -> NDArray[np.float32]:
    return texture[pan : pan + height, pan : pan + width]


def _draw_discs(luma: NDArray[np.float32], chroma: list[NDArray[np.float32]], i: int) -> None:
    height, width = luma.shape
    for n in range(4):
        # Speeds without a common period, in pixels a frame.
        x = int((n * width / 4 + (3 + 2 * n) * i) % width)
        y = int(height / 2 + height / 3 * np.sin(0.05 * i + n))
        radius = max(2, height // (6 + n))
        cv2.circle(luma, (x, y), radius, 60.0 + 45 * n, -1, cv2.LINE_8)
        for plane, tone in zip(chroma, (80.0 + 30 * n, 180.0 - 25 * n), strict=True):
            cv2.circle(plane, (x // 2, y // 2), max(1, radius // 2), tone, -1, cv2.LINE_8)
