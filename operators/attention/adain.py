"""Adaptive instance normalisation of queries and keys (StyleAligned, Hertz et al. 2024, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

EPS = 1e-5


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation over tokens, each [1 or B, heads, 1, d], float32."""

    mean: Tensor
    std: Tensor


def moments(x: Tensor) -> Moments:
    """Per-row token statistics of [B, heads, L, d]; unbiased variance, eps inside the root."""
    x = x.float()
    return Moments(x.mean(2, keepdim=True), (x.var(2, keepdim=True) + EPS).sqrt())


def pooled_moments(x: Tensor) -> Moments:
    """Statistics of [B, heads, L, d] pooled over all rows and tokens: mean of means, total variance."""
    tokens = x.transpose(0, 1).flatten(1, 2).unsqueeze(0)
    return moments(tokens)


def adain(x: Tensor, content: Moments, style: Moments) -> Tensor:
    """Give ``x`` [B, heads, L, d], whose statistics are ``content``, the statistics ``style``.

    With ``content`` fixed for a whole scene this is one affine map per channel: it cannot flicker.
    Computed in float32, returned in the dtype of ``x``.
    """
    scale = style.std / content.std
    return torch.addcmul(style.mean - content.mean * scale, x.float(), scale).to(x.dtype)
