"""Attention outputs carried from keyframes to the frames between them (TokenFlow, Geyer et al. 2023,
arXiv 2307.10373).

A token takes the outputs of its nearest tokens in the two keyframes around it, blended. The paper blends by
distance, its code by ``sigmoid(d2 / (d1 + d2))``, which never leaves [0.5, 0.74] and so jumps where keyframes
are exchanged. With hat weights a keyframe's share is zero where it leaves, and there is nothing to jump.
"""

from __future__ import annotations

import torch
from torch import Tensor


def taken(x: Tensor, index: Tensor) -> Tensor:
    """Tokens [..., N, d] at ``index`` [L] or [L, K], as [..., L, d] or [..., L, K, d]."""
    return x.index_select(-2, index.flatten()).unflatten(-2, index.shape)


def propagate(outputs: list[Tensor], fields: list[Tensor], weights: Tensor) -> Tensor:
    """Sum over keyframes p of ``weights[p]`` times the outputs [..., N, d] of p at ``fields[p]`` [L].

    ``weights`` [P] sum to one: hat weights (1 - u, u). Returns [..., L, d].
    """
    carried = [
        taken(output, field) * weight for output, field, weight in zip(outputs, fields, weights, strict=True)
    ]
    return torch.stack(carried).sum(0)
