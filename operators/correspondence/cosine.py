"""Nearest tokens by cosine similarity: the nearest-neighbour field of TokenFlow (Geyer et al. 2023,
arXiv 2307.10373), over all tokens of the other frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

#: Query tokens compared at a time: bounds memory, and is fixed because it may change the last bit.
BLOCK = 1024


@dataclass(frozen=True)
class Matches:
    """For each of L tokens its best K tokens of another frame, best first: ``index`` int64 [L, K] into the
    other frame's tokens and cosine ``similarity`` float32 [L, K] in [-1, 1]."""

    index: Tensor
    similarity: Tensor


def unit_tokens(tokens: Tensor) -> Tensor:
    """Tokens [..., C] scaled to length one, float32; a zero token stays zero."""
    return F.normalize(tokens.float(), dim=-1, eps=1e-12)


def nearest(queries: Tensor, targets: Tensor) -> Matches:
    """The most similar of ``targets`` [N, C] for each of ``queries`` [L, C]; ties go to the lowest index."""
    unit_queries, unit_targets = unit_tokens(queries), unit_tokens(targets).T
    found = [(block @ unit_targets).max(1) for block in unit_queries.split(BLOCK)]
    similarity = torch.cat([values for values, _ in found])
    index = torch.cat([indices for _, indices in found])
    return Matches(index[:, None], similarity[:, None])
