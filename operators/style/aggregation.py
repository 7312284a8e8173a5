"""Attention feature aggregation of RB-Modulation (Rout et al. 2024, arXiv 2405.17401, section 4.2, eq. 11).

Content and style keys are attended to separately and the results averaged, so that style tokens never compete
with the text in one softmax: out = mean(A_text, A_style, A_text+style), A_x = Attn(Q, [K; K_x], [V; V_x]),
where K, V are the layer's own (self) tokens. In SD-class networks cross-attention has no self tokens; leave
them out there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class KeysValues:
    """Keys and values [B, heads, N, d] of one kind of token."""

    k: Tensor
    v: Tensor


def aggregated(q: Tensor, combinations: Sequence[Sequence[KeysValues]]) -> Tensor:
    """Mean over ``combinations`` of the attention of ``q`` [B, heads, L, d] to all tokens of each."""
    outs = [
        F.scaled_dot_product_attention(
            q, torch.cat([part.k for part in parts], 2), torch.cat([part.v for part in parts], 2)
        )
        for parts in combinations
    ]
    return torch.stack(outs).mean(0)


def paper_combinations(
    own: Sequence[KeysValues], text: KeysValues, style: KeysValues, content: KeysValues | None = None
) -> list[list[KeysValues]]:
    """Text, style and both; with ``content``: text, style, content, and content with style. ``own`` () or
    the self tokens are part of each."""
    if content is None:
        sets = [[text], [style], [text, style]]
    else:
        sets = [[text], [style], [content], [content, style]]
    return [[*own, *parts] for parts in sets]


def released_combinations(
    own: KeysValues, text: KeysValues, pooled: KeysValues, style: KeysValues
) -> list[list[KeysValues]]:
    """The released code: text with its pooled tokens, these with the style, and the style in place of the
    pooled tokens (the branch that the paper calls style still holds the text)."""
    return [[own, text, pooled], [own, text, pooled, style], [own, text, style]]


def mean_token(tokens: Tensor) -> Tensor:
    """Style tokens [B, N, C] all replaced by their mean, as released: what is spatial goes."""
    return tokens.mean(1, keepdim=True).expand_as(tokens)
