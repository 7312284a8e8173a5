"""PSNR and SSIM of results as pictures of 8 bits, and their means over samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jobs.bench.baselines import Mask, Picture, to_8_bit

if TYPE_CHECKING:
    from torch import Tensor

#: PSNR of a result without any error is infinite, which no mean survives and no JSON holds.
HIGHEST_DB = 100.0


@dataclass(frozen=True)
class Score:
    """PSNR in dB (of RGB, inside the holes where there are any) and SSIM of the whole picture."""

    psnr: float
    ssim: float

    def __sub__(self, other: Score) -> Score:
        return Score(self.psnr - other.psnr, self.ssim - other.ssim)


def score(result: Picture, truth: Picture, keep: Mask | None = None) -> Score:
    """Of one picture [h, w, 3] on [0, 1]; ``keep`` [h, w] is zero in the holes."""
    from operators.metrics.fidelity import ssim

    similarity = float(ssim(_tensor(result), _tensor(truth), 255.0))
    return Score(psnr(result, truth, keep), similarity)


def psnr(result: Picture, truth: Picture, keep: Mask | None = None) -> float:
    """As `Score.psnr`."""
    errors = (to_8_bit(result).astype(np.float64) - to_8_bit(truth)) ** 2
    mean = float(errors.mean() if keep is None else errors[keep == 0].mean())
    return HIGHEST_DB if mean == 0.0 else min(HIGHEST_DB, 10.0 * math.log10(255.0**2 / mean))


def best(results: Sequence[Picture], truth: Picture) -> Picture:
    """The result of the highest PSNR."""
    return max(results, key=lambda result: psnr(result, truth))


def mean_score(scores: Sequence[Score]) -> Score:
    """Mean of both figures."""
    return Score(_mean([s.psnr for s in scores]), _mean([s.ssim for s in scores]))


def standard_error(scores: Sequence[Score]) -> Score:
    """Standard errors of both means; 0 for a single sample, which has none to show."""
    return Score(_error([s.psnr for s in scores]), _error([s.ssim for s in scores]))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def _tensor(x: Picture) -> Tensor:
    import torch

    codes: NDArray[np.uint8] = to_8_bit(x)
    return torch.from_numpy(codes).permute(2, 0, 1)[None]
