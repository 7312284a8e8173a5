"""Missing pixels: A x = m * x with a mask shared by channels and frames."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from operators.degradations.projection import Projection
from operators.errors import OperatorError

# Neighbourhood radius of TELEA, the value of the OpenCV tutorial.
TELEA_RADIUS = 3


class Inpainting(Projection):
    """y = m * x.

    ``mask``: uint8 or bool (H, W), non-zero = measured pixel, zero = hole. A = A^T = A^+.
    """

    def __init__(self, mask: np.ndarray) -> None:
        if mask.ndim != 2:
            raise OperatorError(f"degradation.mask: expected one grey picture (H, W), got shape {mask.shape}")
        keep = mask != 0
        if not keep.any():
            raise OperatorError("degradation.mask: it hides every pixel; zero marks a hole, non-zero keeps")
        super().__init__(mask.shape[0], mask.shape[1])
        self.mask = keep
        self._keep = torch.from_numpy(keep)

    def apply(self, x: Tensor) -> Tensor:
        return x * self._keep.to(x.dtype).to(x.device)

    def classical(self, y: Tensor) -> Tensor:
        """Fast marching (Telea 2004) inside the holes, ``y`` elsewhere."""
        if self.mask.all():
            return y
        filled = torch.stack([telea(frame, self.mask) for frame in self.restrict(y)])
        return torch.where(self._keep.to(y.device), y, filled.to(y.dtype).to(y.device))


def telea(frame: Tensor, keep: np.ndarray) -> Tensor:
    """One frame [3, H, W] through OpenCV, which inpaints 8-bit pictures only."""
    pixels = ((frame.detach().cpu().permute(1, 2, 0) + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    hole = (~keep).astype(np.uint8)
    filled = cv2.inpaint(np.ascontiguousarray(pixels.numpy()), hole, TELEA_RADIUS, cv2.INPAINT_TELEA)
    return torch.from_numpy(filled).permute(2, 0, 1) / 127.5 - 1.0
