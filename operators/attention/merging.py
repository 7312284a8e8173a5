"""Merging the tokens of several anchors, most of which show the same things.

VidToMe (Li et al. 2024, section 3.2) matches tokens across frames by cosine similarity and merges the best
matching. There a random frame and an order of chunks decide who survives; here the destinations are fixed,
the tokens of the first anchor, so that the merged bank is a function of the anchors alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def merge_into_first(
    k: Tensor, v: Tensor, log_count: Tensor, ratio: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Merge the share ``ratio`` of the tokens of rows 1.. of ``k``, ``v`` [A, heads, N, d], the best
    matches, into those of row 0 that they resemble most (cosine of the keys of all heads together).

    Keys and values become means weighted by ``log_count`` [A, N] (log of how many tokens each speaks for).
    Returns one row [1, heads, N', d] twice and [1, N'] of log counts: row 0, then what was not merged, in
    order. Ties go to the lower index.
    """
    heads, kept = k.shape[1], k.shape[2]
    keys, values = (x.transpose(1, 2).flatten(0, 1).flatten(1).float() for x in (k, v))
    counts = log_count.float().exp().flatten()
    targets, sources = keys[:kept], keys[kept:]
    score, match = (F.normalize(sources, dim=1) @ F.normalize(targets, dim=1).T).max(1)
    order = torch.sort(score, descending=True, stable=True).indices
    number = int(ratio * len(order))
    merged, apart = order[:number], order[number:].sort().values
    # As a matrix product: scattered sums have no fixed order on accelerators.
    to_target = torch.arange(kept, device=match.device)[:, None] == match[merged]
    shares = to_target.float() * counts[kept:][merged]
    totals = counts[:kept] + shares.sum(1)

    def pooled(x: Tensor) -> Tensor:
        first = (counts[:kept, None] * x[:kept] + shares @ x[kept:][merged]) / totals[:, None]
        return torch.cat([first, x[kept:][apart]])

    def as_row(x: Tensor) -> Tensor:
        return x.view(1, -1, heads, k.shape[3]).transpose(1, 2).to(k.dtype)

    return as_row(pooled(keys)), as_row(pooled(values)), torch.cat([totals, counts[kept:][apart]]).log()[None]
