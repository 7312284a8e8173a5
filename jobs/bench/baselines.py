"""The classical methods that restorations are measured against.

Pictures are RGB [h, w, 3]: float32 nominally on [0, 1] and neither clipped nor quantised where a method
accepts that, else rounded to 8 bits. A method with a free parameter returns one result per value, and the
caller takes the best of each picture: an advantage for the classical side.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Mask = NDArray[np.uint8]

MEDIAN_WINDOWS = (3, 5)
#: Filter strengths of non-local means as multiples of the noise in 8-bit codes, with windows of 5 and 15.
NLM_STRENGTHS = (0.5, 0.65, 0.8, 1.0)
NLM_WINDOWS = (5, 15)
BACK_PROJECTIONS = 3
#: Neighbourhood radius of both inpainting methods, the value of the OpenCV tutorial.
INPAINT_RADIUS = 3


def to_8_bit(x: Picture) -> Mask:
    """Rounded and clipped codes."""
    codes: Mask = np.rint(np.clip(x, 0.0, 1.0) * 255.0).astype(np.uint8)
    return codes


def median(noisy: Picture) -> list[Picture]:
    """Per channel, each window of `MEDIAN_WINDOWS`."""
    import cv2

    return [cv2.medianBlur(noisy, window) for window in MEDIAN_WINDOWS]


def non_local_means(noisy: Picture, sigma: float) -> list[Picture]:
    """Coloured non-local means (Buades et al. 2005) of the 8-bit picture, at each strength."""
    import cv2

    codes = to_8_bit(noisy)
    strengths = [255.0 * sigma * factor for factor in NLM_STRENGTHS]
    return [_unit(cv2.fastNlMeansDenoisingColored(codes, None, h, h, *NLM_WINDOWS)) for h in strengths]


def has_bm3d() -> bool:
    """Whether the optional package ``bm3d`` is installed."""
    return importlib.util.find_spec("bm3d") is not None


def bm3d(noisy: Picture, sigma: float) -> Picture:
    """BM3D for colour (Dabov et al. 2007), told the true noise; needs the package ``bm3d``."""
    module: Any = importlib.import_module("bm3d")
    result: Picture = np.asarray(module.bm3d_rgb(noisy.astype(np.float64), sigma), np.float32)
    return result


def bicubic(y: Picture, scale: int) -> Picture:
    """Plain bicubic interpolation."""
    import cv2

    return _enlarge(y, scale, cv2.INTER_CUBIC)


def lanczos(y: Picture, scale: int) -> Picture:
    """Lanczos interpolation with eight taps."""
    import cv2

    return _enlarge(y, scale, cv2.INTER_LANCZOS4)


def back_projected(y: Picture, scale: int) -> Picture:
    """Iterative back-projection (Irani and Peleg 1991) from bicubic: the residual of the block means is
    enlarged bicubically and added, `BACK_PROJECTIONS` times."""
    x = bicubic(y, scale)
    for _ in range(BACK_PROJECTIONS):
        x = x + bicubic(y - block_means(x, scale), scale)
    return x


def block_means(x: Picture, scale: int) -> Picture:
    """The mean of each ``scale`` x ``scale`` block: the forward model of super-resolution."""
    height, width, channels = x.shape
    blocks = x.reshape(height // scale, scale, width // scale, scale, channels)
    means: Picture = blocks.mean(axis=(1, 3), dtype=np.float64).astype(np.float32)
    return means


def telea(y: Picture, keep: Mask) -> Picture:
    """Fast marching (Telea 2004); ``keep`` [h, w] is zero in the holes."""
    import cv2

    return _inpaint(y, keep, cv2.INPAINT_TELEA)


def navier_stokes(y: Picture, keep: Mask) -> Picture:
    """Fluid dynamics (Bertalmio et al. 2001)."""
    import cv2

    return _inpaint(y, keep, cv2.INPAINT_NS)


def _inpaint(y: Picture, keep: Mask, method: int) -> Picture:
    import cv2

    hole: Mask = (keep == 0).astype(np.uint8)
    filled = _unit(cv2.inpaint(to_8_bit(y), hole, INPAINT_RADIUS, method))
    return np.where(keep[..., None] != 0, y, filled)


def _enlarge(y: Picture, scale: int, method: int) -> Picture:
    import cv2

    size = (y.shape[1] * scale, y.shape[0] * scale)
    enlarged: Picture = cv2.resize(y, size, interpolation=method)
    return enlarged


def _unit(codes: Mask) -> Picture:
    return codes.astype(np.float32) / np.float32(255.0)
