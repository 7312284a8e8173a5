"""Is the drawing of the source kept, whatever its colours?"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from operators.metrics.fidelity import ssim
from operators.metrics.unit_range import Frame, unit_range


def gradient_ssim(output: Frame, source: Frame) -> float:
    """SSIM (`operators.metrics.fidelity.ssim`, data range 1) of the gradients of luma, in [-1, 1].

    Gradients are the magnitudes of unscaled Sobel responses to luma on [0, 1] (8 times the slope per pixel).
    1 for equal drawings; adding a constant to a picture, or inverting it, changes nothing. Both are RGB
    [H, W, 3] of equal size, sides of 11 at least. In the spirit of Chen et al. 2006 (gradient-based SSIM);
    that all three terms are taken from the gradients is our reading.
    """
    return float(ssim(_edges(output), _edges(source), 1.0))


def _edges(frame: Frame) -> Tensor:
    luma = cv2.cvtColor(unit_range(frame), cv2.COLOR_RGB2GRAY)
    x, y = (cv2.Sobel(luma, cv2.CV_32F, dx, dy) for dx, dy in ((1, 0), (0, 1)))
    return torch.from_numpy(np.hypot(x, y))[None, None]
