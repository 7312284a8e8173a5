"""RGB of deep and of full-range pictures, by the equations themselves.

swscale scales deep pictures by powers of two (white becomes 65280 instead of 65535), lowers the chroma of
full-range ones by half a code per generation, and drifts, so it only resamples chroma here; the matrix is
applied in float32, which is exact to well below one code of 12 bits. Equations: ITU-T H.273, 8.3 (matrix
coefficients and ranges).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.frame import VideoFrame

_DEPTHS = (8, 9, 10, 12, 14, 16)

# AVCOL_SPC_* -> weights of red and blue in luma.
LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}


def plain_format(pix_fmt: str) -> str:
    """The planar format without chroma subsampling, of the same depth, that a format goes through."""
    layout = VideoFrame(16, 16, pix_fmt).format
    deepest = max(c.bits for c in layout.components)
    bits = next(depth for depth in _DEPTHS if depth >= deepest)
    if layout.is_rgb:
        return "gbrp" if bits == 8 else f"gbrp{bits}le"
    return "yuv444p" if bits == 8 else f"yuv444p{bits}le"


def planes_to_rgb(frame: VideoFrame, matrix: int, full: bool) -> np.ndarray:
    """RGB [h, w, 3] of a frame in a `plain_format`: uint8 of 8 bits, else uint16 over 0..65535."""
    bits = frame.format.components[0].bits
    kind = np.dtype(np.uint8 if bits == 8 else np.uint16)
    a, b, c = (_samples(frame, i).astype(np.float32) for i in range(3))
    if frame.format.is_rgb:
        rgb = np.stack([c, a, b], -1) / np.float32(2**bits - 1)
        return _to_codes(rgb, kind)
    luma_zero, luma_span, chroma_span = _range(bits, full)
    y = (a - luma_zero) / luma_span
    cb, cr = ((plane - 2.0 ** (bits - 1)) / chroma_span for plane in (b, c))
    kr, kb = LUMA_WEIGHTS[matrix]
    red = y + np.float32(2 * (1 - kr)) * cr
    blue = y + np.float32(2 * (1 - kb)) * cb
    green = (y - np.float32(kr) * red - np.float32(kb) * blue) / np.float32(1 - kr - kb)
    return _to_codes(np.stack([red, green, blue], -1), kind)


def rgb_to_planes(rgb: np.ndarray, plain: str, matrix: int, full: bool) -> VideoFrame:
    """A frame in a `plain_format` from RGB [h, w, 3], uint8 or uint16 over its whole range."""
    frame = VideoFrame(rgb.shape[1], rgb.shape[0], plain)
    bits = frame.format.components[0].bits
    red, green, blue = np.moveaxis(rgb.astype(np.float32) / np.float32(np.iinfo(rgb.dtype).max), -1, 0)
    peak = 2**bits - 1
    if frame.format.is_rgb:
        codes = [_round(plane * np.float32(peak), peak) for plane in (green, blue, red)]
    else:
        luma_zero, luma_span, chroma_span = _range(bits, full)
        kr, kb = LUMA_WEIGHTS[matrix]
        y = np.float32(kr) * red + np.float32(1 - kr - kb) * green + np.float32(kb) * blue
        middle = 2.0 ** (bits - 1)
        cb = (blue - y) / np.float32(2 * (1 - kb)) * chroma_span + middle
        cr = (red - y) / np.float32(2 * (1 - kr)) * chroma_span + middle
        codes = [_round(plane, peak) for plane in (y * luma_span + luma_zero, cb, cr)]
    for i, plane in enumerate(codes):
        _samples(frame, i)[:] = plane
    return frame


def _range(bits: int, full: bool) -> tuple[np.float32, np.float32, np.float32]:
    """Code of black, codes from black to white, codes from least to greatest chroma."""
    if full:
        peak = np.float32(2**bits - 1)
        return np.float32(0), peak, peak
    unit = np.float32(2 ** (bits - 8))
    return 16 * unit, 219 * unit, 224 * unit


def _samples(frame: VideoFrame, plane: int) -> np.ndarray:
    source: Any = frame.planes[plane]
    kind = np.dtype(np.uint8 if frame.format.components[0].bits == 8 else "<u2")
    rows = np.frombuffer(source, kind).reshape(source.height, source.line_size // kind.itemsize)
    return rows[:, : source.width]


def _to_codes(unit: np.ndarray, kind: np.dtype) -> np.ndarray:
    white = np.iinfo(kind).max
    return _round(unit * np.float32(white), white).astype(kind)


def _round(codes: np.ndarray, peak: float) -> np.ndarray:
    return np.asarray(np.clip(np.rint(codes), 0, peak))
