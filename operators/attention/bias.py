"""Constant logit biases per (query row, reference) without an attention mask.

A mask keeps fused attention kernels from being used. Instead the bias rides in extra head channels:
``q' = [q, sqrt(d) c]``, ``k' = [k, e]`` and the scale stays ``1/sqrt(d)``, so that every logit gains
``<c, e>`` exactly. Static biases use one channel (``c = 1``, ``e = bias``); a weight that differs between
query rows uses one channel per reference (``c = log weight of the row``, ``e = 1`` on its keys). A batch of
one row needs one channel only.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

#: exp(-30) vanishes in float32 attention, and 30 is safe in fp16 products.
FLOOR = -30.0
#: Accelerators' fused kernels want head sizes that are multiples of eight; those of CPUs take any.
ALIGNMENT = 8


def log_weight(weight: Tensor) -> Tensor:
    """``max(log(weight), FLOOR)`` for weights in [0, 1]."""
    return weight.log().clamp_min(FLOOR)


def biased_attention(
    q: Tensor, k: Tensor, v: Tensor, query_channels: Tensor, key_channels: Tensor
) -> Tensor:
    """Softmax(q k^T / sqrt(d) + bias) v.

    ``q`` [B, heads, L, d]; ``k``, ``v`` [B, heads, N, d]; ``query_channels`` [B, R] and
    ``key_channels`` [N, R] give the bias ``query_channels @ key_channels.T`` [B, N], the same for every
    token and head of a row.
    """
    if query_channels.shape[0] == 1:
        # One row: what differs between rows is the same for all, and fits into one channel.
        key_channels = (key_channels * query_channels).sum(1, keepdim=True)
        query_channels = torch.ones_like(query_channels[:, :1])
    d = q.shape[-1]
    extra = query_channels.shape[1]
    pad = -(d + extra) % ALIGNMENT if q.is_cuda else 0
    q_tail = (query_channels * math.sqrt(d)).to(q.dtype)[:, None, None, :]
    k_tail = key_channels.to(k.dtype)[None, None, :, :]
    q = torch.cat([q, q_tail.expand(*q.shape[:3], extra)], -1)
    k = torch.cat([k, k_tail.expand(*k.shape[:3], extra)], -1)
    v_pad = q.shape[-1] + pad - v.shape[-1]
    out = F.scaled_dot_product_attention(
        F.pad(q, (0, pad)), F.pad(k, (0, pad)), F.pad(v, (0, v_pad)), scale=1.0 / math.sqrt(d)
    )
    return out[..., :d]
