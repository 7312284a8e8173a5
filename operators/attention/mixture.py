"""Several references read as one: their tokens side by side, weighted in the logits, and mixed statistics."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from operators.attention.adain import Moments
from operators.attention.bias import log_weight
from operators.attention.harvest import Harvest, LayerHarvest
from operators.attention.norms import GroupSums


def mixed_harvests(harvests: Sequence[Harvest], weights: Sequence[float]) -> Harvest:
    """One harvest of one row of what references left that were replayed apart.

    ``weights`` in (0, 1] sum to one: every token of a reference counts as often as its weight says, so equal
    references are one. Statistics are those of the weighted mixture. One harvest is returned as it is.
    """
    if len(harvests) == 1:
        return harvests[0]
    shares = torch.tensor(weights, dtype=torch.float64)
    layers = {
        key: _mixed_layer([harvest.layers[key] for harvest in harvests], shares) for key in harvests[0].layers
    }
    norms = {
        key: GroupSums(
            _average([h.norms[key].mean.mean(0, keepdim=True) for h in harvests], shares),
            _average([h.norms[key].square.mean(0, keepdim=True) for h in harvests], shares),
        )
        for key in harvests[0].norms
    }
    return Harvest(layers, norms)


def _mixed_layer(parts: Sequence[LayerHarvest], shares: Tensor) -> LayerHarvest:
    counts = [
        (part.k.new_zeros(part.k.shape[0], part.k.shape[2]) if part.log_count is None else part.log_count)
        + log_weight(share).to(part.k)
        for part, share in zip(parts, shares, strict=True)
    ]
    return LayerHarvest(
        torch.cat([_flat(part.k) for part in parts], 2),
        torch.cat([_flat(part.v) for part in parts], 2),
        torch.cat([count.flatten()[None] for count in counts], 1),
        _mixed_moments([part.q_moments for part in parts], shares),
        _mixed_moments([part.k_moments for part in parts], shares),
    )


def _flat(x: Tensor) -> Tensor:
    """[R, heads, N, d] to [1, heads, R N, d]."""
    return x.transpose(0, 1).flatten(1, 2)[None]


def _mixed_moments(parts: Sequence[Moments | None], shares: Tensor) -> Moments | None:
    """Mean and total deviation of a mixture; None where nothing was kept."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    mean = _average([part.mean for part in known], shares)
    square = _average([part.std.square() + part.mean.square() for part in known], shares)
    return Moments(mean, (square - mean.square()).clamp_min(0).sqrt())


def _average(values: Sequence[Tensor], shares: Tensor) -> Tensor:
    return sum(value * share.to(value) for value, share in zip(values, shares, strict=True))
