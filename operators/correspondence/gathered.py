"""Attention in which every query has keys of its own besides the common ones (after COVE, arXiv 2406.08850).

The paper lets a token attend to its matches in the other frames. Our reading, in a form that needs no other
frame of the chunk: each query attends to [all tokens of its frame | its K matches in each reference], under
one softmax, a reference's matches weighing as much as its hat weight says.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Query tokens attended at a time: bounds the table of logits, and is fixed because it may change bits.
BLOCK = 512


def gathered_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, own_k: Tensor, own_v: Tensor, own_bias: Tensor
) -> Tensor:
    """Softmax over [common keys | own keys of the query] times their values.

    ``q`` [B, heads, L, d]; common ``k``, ``v`` [B, heads, N, d] with logit ``bias`` [N]; per query
    ``own_k``, ``own_v`` [B, heads, L, M, d] with logit ``own_bias`` [B, M]. Returns [B, heads, L, d].
    """
    blocks = zip(q.split(BLOCK, 2), own_k.split(BLOCK, 2), own_v.split(BLOCK, 2), strict=True)
    bias, own_bias = bias.float(), own_bias.float()[:, None, None]
    return torch.cat([_attend(rows, k, v, bias, mine, its, own_bias) for rows, mine, its in blocks], 2)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, own_k: Tensor, own_v: Tensor, own_bias: Tensor
) -> Tensor:
    scale = 1.0 / math.sqrt(q.shape[-1])
    common = (q @ k.transpose(-1, -2)).float() * scale + bias
    own = (own_k @ q.unsqueeze(-1)).squeeze(-1).float() * scale + own_bias
    weights = torch.cat([common, own], -1).softmax(-1).to(v.dtype)
    to_common, to_own = weights.split([k.shape[2], own_k.shape[3]], -1)
    return to_common @ v + (to_own.unsqueeze(-2) @ own_v).squeeze(-2)
