"""How far the output's change from frame to frame is from the source's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from operators.metrics.flicker import Pair
from operators.metrics.unit_range import unit_range


@dataclass(frozen=True)
class Delta:
    """Of one pair: ``error`` mean |dOut - dSrc| in codes of 255, ``mse`` mean (dOut - dSrc)^2 on [0, 1]."""

    error: float
    mse: float


def delta(pair: Pair) -> Delta:
    """Compare (O_{t+1} - O_t) with (S_{t+1} - S_t), all channels; the delta error of StreamDiffusionV2's
    tools (our reading, in floats)."""
    output = unit_range(pair.there) - unit_range(pair.here)
    source = unit_range(pair.source_there) - unit_range(pair.source_here)
    gap = (output - source).astype(np.float64)
    return Delta(float(np.abs(gap).mean() * 255.0), float(np.square(gap).mean()))


def delta_psnr(mses: Sequence[float]) -> float:
    """-10 log10 of the mean of `Delta.mse` over pairs, in dB (data range 1); infinite for equal changes."""
    mean = math.fsum(mses) / len(mses)
    return math.inf if mean == 0 else -10.0 * math.log10(mean)
