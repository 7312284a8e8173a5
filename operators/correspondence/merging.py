"""Token merging towards frozen destinations (after VidToMe, Li et al. 2024, arXiv 2312.10656).

VidToMe merges the tokens of a chunk into a frame drawn from it, so that a result depends on the chunk, its
order and the draw. Here destinations are tokens of references (anchors, knots), which are the same for
everybody. Merging is the published one with ``replace``: the sources most similar to a destination are
dropped, and get its output back afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from operators.correspondence.cosine import unit_tokens


@dataclass(frozen=True)
class Merging:
    """Which of S source tokens stay and which are dropped: ``kept`` [U] and ``dropped`` [M] index sources
    (by falling similarity), ``destination`` [M] the destination of each dropped one."""

    kept: Tensor
    dropped: Tensor
    destination: Tensor


def merging(similarity: Tensor, destination: Tensor, ratio: float) -> Merging:
    """Drop the ``int(S ratio)`` sources of the highest ``similarity`` [S]; ``destination`` [S] is where each
    would go. ``ratio`` in [0, 1]; ties go to the lowest index."""
    order = similarity.argsort(descending=True, stable=True)
    count = int(len(order) * ratio)
    return Merging(order[count:], order[:count], destination[order[:count]])


def aligned_merging(sources: Tensor, destinations: Tensor, ratio: float) -> Merging:
    """One merging for all rows of a batch: sources [B, S, C], destinations [B, D, C], each compared within
    its row, the best row of each source deciding (VidToMe's ``align_batch``)."""
    scores = unit_tokens(sources) @ unit_tokens(destinations).transpose(1, 2)
    similarity, index = torch.cat([*scores], dim=1).max(1)
    return merging(similarity, index % destinations.shape[1], ratio)


def merged(sources: Tensor, destinations: Tensor, how: Merging) -> Tensor:
    """The shorter sequence [..., U + D, d]: the sources that stay, then the destinations."""
    return torch.cat([sources.index_select(-2, how.kept), destinations], -2)


def unmerged(x: Tensor, how: Merging) -> tuple[Tensor, Tensor]:
    """Undo `merged` on what became of its tokens [..., U + D, d]: sources [..., S, d], destinations
    [..., D, d]."""
    kept, destinations = x.split([len(how.kept), x.shape[-2] - len(how.kept)], -2)
    return restored(kept, destinations.index_select(-2, how.destination), how), destinations


def restored(kept: Tensor, dropped: Tensor, how: Merging) -> Tensor:
    """Sources [..., S, d] from the outputs of those that stayed [..., U, d] and of those that were dropped
    [..., M, d]."""
    order = torch.cat([how.kept, how.dropped])
    return torch.cat([kept, dropped], -2).index_select(-2, order.argsort())
