"""Colour distance by histograms in CIE Lab."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from operators.metrics.unit_range import Frame, unit_range

#: Bins of L, a and b (which axis has how many is our reading of "32 x 32 x 16").
BINS = (32, 32, 16)
_RANGES = ((0.0, 100.0), (-128.0, 128.0), (-128.0, 128.0))


def lab_histogram(frame: Frame) -> NDArray[np.float64]:
    """Share of pixels per bin [32, 32, 16], summing to 1, of an sRGB picture [H, W, 3] (D65, float)."""
    lab = cv2.cvtColor(np.ascontiguousarray(unit_range(frame)), cv2.COLOR_RGB2LAB)
    counts, _ = np.histogramdd(lab.reshape(-1, 3).astype(np.float64), bins=BINS, range=_RANGES)
    return counts / counts.sum()


def mixed_histogram(frames: Sequence[Frame], weights: Sequence[float]) -> NDArray[np.float64]:
    """`lab_histogram` of several pictures, mixed by ``weights`` that sum to 1."""
    parts = [weight * lab_histogram(frame) for frame, weight in zip(frames, weights, strict=True)]
    return np.sum(parts, axis=0)


def chi_square(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """sum (p - q)^2 / (p + q) / 2 of two histograms that sum to 1: 0 when equal, 1 when disjoint."""
    total = p + q
    filled = total > 0
    return float(0.5 * (np.square(p - q)[filled] / total[filled]).sum())
