"""GroupNorm statistics shared with a reference (StyleAligned's `share_group_norm`).

The published code lets every GroupNorm see the picture with the reference appended. Only two sums per group
enter, so a reference leaves (mean, mean of squares) [1, groups] and need not be present.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class GroupSums:
    """Mean and mean of squares per group, each [B, groups], float32."""

    mean: Tensor
    square: Tensor


def group_sums(norm: nn.GroupNorm, x: Tensor) -> GroupSums:
    """Sums of [B, C, ...] over the groups of ``norm``."""
    grouped = x.float().reshape(x.shape[0], norm.num_groups, -1)
    return GroupSums(grouped.mean(-1), grouped.square().mean(-1))


def shared_group_norm(norm: nn.GroupNorm, x: Tensor, reference: GroupSums) -> Tensor:
    """GroupNorm of [B, C, ...] under statistics pooled in equal parts with ``reference``."""
    own = group_sums(norm, x)
    mean = (own.mean + reference.mean.mean(0, keepdim=True)) / 2
    square = (own.square + reference.square.mean(0, keepdim=True)) / 2
    inverse = torch.rsqrt(square - mean.square() + norm.eps)
    per_channel = x.shape[1] // norm.num_groups
    shape = (x.shape[0], x.shape[1], *([1] * (x.dim() - 2)))
    mean = mean.repeat_interleave(per_channel, 1).view(shape)
    inverse = inverse.repeat_interleave(per_channel, 1).view(shape)
    weight = norm.weight.float().view(1, -1, *([1] * (x.dim() - 2)))
    bias = norm.bias.float().view(1, -1, *([1] * (x.dim() - 2)))
    return ((x.float() - mean) * inverse * weight + bias).to(x.dtype)
