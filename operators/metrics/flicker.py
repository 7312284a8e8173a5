"""Change from frame to frame that the source does not have. Units: codes of 255."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from operators.flow.dis import Flow
from operators.metrics.unit_range import Frame, unit_range

#: Where a source counts as static: motion in pixels, change in codes of 255 in every channel.
STILL_PIXELS, STILL_CODES = 0.2, 2.0
_CODES = np.float32(255.0)


@dataclass(frozen=True)
class Pair:
    """Two consecutive frames of the output and of the source, RGB [H, W, 3], all of one size."""

    here: Frame
    there: Frame
    source_here: Frame
    source_there: Frame


def static_pixels(pair: Pair, flow: Flow) -> NDArray[np.bool_]:
    """Pixels whose source moves less than `STILL_PIXELS` (``flow`` [H, W, 2]) and changes less than
    `STILL_CODES`, bool [H, W]."""
    change = np.abs(unit_range(pair.source_there) - unit_range(pair.source_here)) * _CODES
    return ((flow**2).sum(2) < STILL_PIXELS**2) & (change < STILL_CODES).all(2)


def static_flicker(pair: Pair, flow: Flow) -> float:
    """Mean |change| of the output over `static_pixels`, in codes of 255; NaN where none are static.

    VBench's temporal flickering, (255 - m) / 255 of this mean m, is defined for static videos; restricted to
    static pixels it is defined for all.
    """
    still = static_pixels(pair, flow)
    if not still.any():
        return math.nan
    change = np.abs(unit_range(pair.there) - unit_range(pair.here)) * _CODES
    return float(change[still].mean(dtype=np.float64))


def flicker_excess(pair: Pair) -> float:
    """mean|dOut| - mean|dSrc| over the picture, in codes of 255, after matching the output's contrast.

    Each channel of the output is scaled to the source's standard deviation over both frames: a style with
    twice the contrast has twice the difference of every movement, without flickering. The mean needs no
    matching, since differences do not have it.
    """
    output = np.stack([unit_range(pair.here), unit_range(pair.there)])
    source = np.stack([unit_range(pair.source_here), unit_range(pair.source_there)])
    axes = (0, 1, 2)
    spread = output.std(axes, dtype=np.float64)
    gain = np.divide(source.std(axes, dtype=np.float64), spread, out=np.ones(3), where=spread > 0)
    moved = np.abs(output[1] - output[0]).mean((0, 1), dtype=np.float64) * gain
    own = np.abs(source[1] - source[0]).mean((0, 1), dtype=np.float64)
    return float((moved - own).mean() * _CODES)
