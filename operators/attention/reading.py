"""Who attends to whom.

    query frame  ->  [ itself | style | scene anchors | left knot, right knot ]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.attention.bias import biased_attention
from operators.attention.harvest import Harvest, LayerKey
from operators.attention.layer_call import LayerCall

#: What may stand in for a layer's attention: the call to the output tokens [B, L, C], or None where the
#: layer is to attend as usual.
Replacement = Callable[[LayerCall], Tensor | None]


@dataclass(frozen=True)
class Reader:
    """One reference in a query's bank. ``bias`` is the logit bias of its keys; ``row_bias`` [B] adds a
    bias per query row (log of the hat weight)."""

    harvest: Harvest
    bias: float = 0.0
    row_bias: Tensor | None = None


@dataclass(frozen=True)
class Alignment:
    """AdaIN of queries and keys towards ``style``. ``content`` holds the statistics of the scene's
    anchors; None takes those of the batch itself, pooled (the anchors' own pass). ``norms`` also shares
    GroupNorm statistics with the style."""

    style: Harvest
    content: Harvest | None
    norms: bool = False


@dataclass(frozen=True)
class Reading:
    """What the rows of a network call attend to: their ``own`` keys (False: references take their place)
    and the ``readers``. ``joint`` lets all rows attend to each other (anchors only). ``replace`` may stand
    in for the attention of a layer. ``record`` asks that what the call leaves be kept for units after it."""

    readers: tuple[Reader, ...] = ()
    alignment: Alignment | None = None
    own: bool = True
    joint: bool = False
    replace: Replacement | None = None
    record: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether rows attend to themselves alone."""
        return self.own and not self.readers and not self.joint


#: Every row attends to itself and to nothing else.
ALONE = Reading()


def attend(reading: Reading, key: LayerKey, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of one layer; ``q``, ``k``, ``v`` [B, heads, L, d] of the rows themselves, aligned."""
    if reading.is_plain:
        return F.scaled_dot_product_attention(q, k, v)
    rows = q.shape[0]
    keys, values, static = [], [], []
    weighted: list[tuple[int, int, Tensor]] = []
    if reading.own or reading.joint:
        keys.append(as_one(k, rows) if reading.joint else k)
        values.append(as_one(v, rows) if reading.joint else v)
        static.append(q.new_zeros(keys[0].shape[2]))
    at = sum(x.shape[2] for x in keys)
    for reader in reading.readers:
        layer = reader.harvest.layers[key]
        keys.append(as_one(layer.k, rows))
        values.append(as_one(layer.v, rows))
        length = keys[-1].shape[2]
        static.append(q.new_full((length,), reader.bias))
        if reader.row_bias is not None:
            weighted.append((at, at + length, reader.row_bias.to(q)))
        at += length
    all_k, all_v = torch.cat(keys, 2), torch.cat(values, 2)
    if not weighted and not any(reader.bias for reader in reading.readers):
        return F.scaled_dot_product_attention(q, all_k, all_v)
    key_channels = q.new_zeros(at, 1 + len(weighted))
    key_channels[:, 0] = torch.cat(static)
    query_channels = q.new_ones(rows, 1 + len(weighted))
    for channel, (first, last, row_bias) in enumerate(weighted, start=1):
        key_channels[first:last, channel] = 1.0
        query_channels[:, channel] = row_bias
    return biased_attention(q, all_k, all_v, query_channels, key_channels)


def as_one(x: Tensor, rows: int) -> Tensor:
    """[R, heads, L, d] of R frames to [rows, heads, R L, d]: every query row sees all of them."""
    flat = x.transpose(0, 1).flatten(1, 2).unsqueeze(0)
    return flat.expand(rows, -1, -1, -1)
