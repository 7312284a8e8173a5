"""Pictures as CLIP's vision towers take them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


def clip_pixels(pictures: Tensor, side: int) -> Tensor:
    """Pictures [B, 3, H, W] in [-1, 1] to [B, 3, side, side] float32 with CLIP's mean and deviation: the
    short side scaled to ``side`` (bicubic), the centre cut. Differentiable."""
    x = _centre_square(pictures.float(), side) / 2 + 0.5
    mean, std = (x.new_tensor(v).view(1, 3, 1, 1) for v in (_MEAN, _STD))
    return (x - mean) / std


def _centre_square(x: Tensor, side: int) -> Tensor:
    height, width = x.shape[2:]
    scale = side / min(height, width)
    size = (max(side, round(height * scale)), max(side, round(width * scale)))
    x = F.interpolate(x, size=size, mode="bicubic", antialias=True)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    return x[:, :, top : top + side, left : left + side]
