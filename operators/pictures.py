"""Between stored pictures (uint8 or uint16, channels last) and tensors in [-1, 1]; padding for a model."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def to_tensor(pictures: np.ndarray, device: str | torch.device = "cpu") -> Tensor:
    """uint8 or uint16 [B, H, W, 3] to float32 [B, 3, H, W] in [-1, 1]."""
    peak = float(np.iinfo(pictures.dtype).max)
    # torch knows no uint16 arithmetic; float32 holds 16-bit codes exactly.
    values = torch.from_numpy(pictures.astype(np.float32)).to(device)
    return values.permute(0, 3, 1, 2) * (2.0 / peak) - 1.0


def to_pictures(x: Tensor, dtype: np.dtype) -> np.ndarray:
    """float [B, 3, H, W] in [-1, 1] (clipped) to uint8 or uint16 [B, H, W, 3], rounding half to even."""
    peak = float(np.iinfo(dtype).max)
    codes = ((x.clamp(-1.0, 1.0) + 1.0) * (peak / 2.0)).round()
    return codes.permute(0, 2, 3, 1).contiguous().cpu().numpy().astype(dtype)


def padded_side(side: int, scale: int, multiple: int) -> int:
    """Smallest side >= ``side`` whose ``scale``-fold is a multiple of ``multiple`` pixels."""
    step = multiple // math.gcd(multiple, scale)
    return -(-side // step) * step


def pad_edges(x: Tensor, height: int, width: int) -> Tensor:
    """Replicate the last row and column of [B, C, h, w] up to ``height`` x ``width``."""
    return F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2]), mode="replicate")
