"""Missing pixels that differ from frame to frame: scratches, dust, moving logos."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from operators.degradations.base import require_frames
from operators.degradations.inpainting import telea
from operators.degradations.projection import Projection
from operators.errors import OperatorError


class VideoInpainting(Projection):
    """y_t = m_t * x_t for one clip.

    ``masks``: uint8 or bool (T, H, W), non-zero = measured pixel. A = A^T = A^+. A frame may be missing
    altogether. Frames do not meet in A: a clip may be cut anywhere if its masks are cut with it.
    """

    def __init__(self, masks: np.ndarray) -> None:
        if masks.ndim != 3:
            raise OperatorError(
                f"degradation.mask: expected one grey picture per frame (T, H, W), got shape {masks.shape}"
            )
        super().__init__(masks.shape[1], masks.shape[2])
        self.frames = masks.shape[0]
        self.masks = masks != 0
        self._keep = torch.from_numpy(self.masks)[:, None]

    def apply(self, x: Tensor) -> Tensor:
        require_frames(len(x), self.frames)
        return x * self._keep.to(x.dtype).to(x.device)

    def classical(self, y: Tensor) -> Tensor:
        """Fast marching (Telea 2004) inside the holes of each frame, ``y`` elsewhere."""
        known = self.restrict(y)
        filled = [
            frame if mask.all() or not mask.any() else telea(frame, mask)
            for frame, mask in zip(known, self.masks, strict=True)
        ]
        joined = torch.stack([frame.to(y.dtype).to(y.device) for frame in filled])
        return torch.where(self._keep.to(y.device), y, joined)
