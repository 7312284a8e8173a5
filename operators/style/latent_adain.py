"""AdaIN of latents and of predicted noise: per-channel statistics over space (Huang and Belongie 2017).

StyleID gives the inverted content the statistics of the inverted style; RIVAL does so with the predicted
noise. With the content's statistics taken from the anchors of a scene it is one affine map, which cannot
flicker.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: Added to variances: flat latents stay finite.
EPS = 1e-5


@dataclass(frozen=True)
class ChannelMoments:
    """Mean and standard deviation per channel, each [1 or B, C, 1, 1], float32 or better."""

    mean: Tensor
    std: Tensor


def channel_moments(z: Tensor) -> ChannelMoments:
    """Of each row of [B, C, h, w] over its cells; unbiased variance."""
    z = z if z.dtype == torch.float64 else z.float()
    variance = z.var((2, 3), keepdim=True)
    return ChannelMoments(z.mean((2, 3), keepdim=True), (variance + EPS).sqrt())


def pooled_channel_moments(z: Tensor) -> ChannelMoments:
    """Of all rows together, [1, C, 1, 1]: several anchors, or several references."""
    return channel_moments(z.transpose(0, 1).flatten(1)[None, :, :, None])


def adain_latents(z: Tensor, style: ChannelMoments, content: ChannelMoments | None = None) -> Tensor:
    """``z`` [B, C, h, w], whose statistics are ``content`` (None: each row's own), with those of
    ``style``."""
    content = content or channel_moments(z)
    return ((z - content.mean) / content.std * style.std + style.mean).to(z.dtype)
