"""The source's colours on a stylized picture: luma is styled, chroma is the source's.

Luminance-only transfer (Gatys et al. 2016, "Preserving Color in Neural Artistic Style Transfer", 1606.05897,
section 5.2): the output has the styled picture's Y and the source's I and Q. Written without a matrix: a
colour is its luma on the grey axis and an offset of no luma, and the offset is the source's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from operators.luma import LUMA_WEIGHTS


def lock_colours(styled: Tensor, source: Tensor) -> Tensor:
    """The luma of ``styled`` with the chroma of ``source``, both [B, 3, H, W] in [-1, 1] (clipped first).

    Where that colour would leave the cube, its offset is shortened as far as needed: luma stays exactly the
    styled one and hue the source's, only saturation gives way, which clipping channels would not do (the
    paper clips). Every pixel is a function of its own two colours, so nothing is added in time to what
    source and styled luma do.
    """
    luma, grey = _luma(styled.clamp(-1, 1)), _luma(source.clamp(-1, 1))
    offset = source.clamp(-1, 1) - grey
    # How far each channel may go before it reaches the side of the cube that it moves towards.
    room = torch.where(offset > 0, 1 - luma, 1 + luma)
    share = (room / offset.abs().clamp_min(torch.finfo(offset.dtype).tiny)).amin(1, keepdim=True)
    return luma + share.clamp_max(1.0) * offset


def _luma(x: Tensor) -> Tensor:
    """Luma [B, 1, H, W] in [-1, 1] of [B, 3, H, W]."""
    weights = torch.tensor(LUMA_WEIGHTS, dtype=x.dtype, device=x.device)
    return torch.einsum("c,bchw->bhw", weights, x)[:, None]
