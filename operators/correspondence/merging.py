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


def restored(kept: Tensor, dropped: Tensor, how: Merging) -> Tensor:
    """Sources [..., S, d] from the outputs of those that stayed [..., U, d] and of those that were dropped
    [..., M, d]."""
    order = torch.cat([how.kept, how.dropped])
    return torch.cat([kept, dropped], -2).index_select(-2, order.argsort())
