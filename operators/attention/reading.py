"""Who attends to whom.

query frame  ->  [ itself | style | scene anchors | left knot, right knot ]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.attention.adain import adain, pooled_moments
from operators.attention.bias import biased_attention
from operators.attention.harvest import Harvest, LayerKey
from operators.attention.injection import Injection
from operators.attention.layer_call import LayerCall
from operators.attention.tokens import Chosen, TokenChoice

#: What may stand in for a layer's attention: the call to the output tokens [B, L, C], or None where the
#: layer is to attend as usual.
Replacement = Callable[[LayerCall], Tensor | None]


@dataclass(frozen=True)
class Reader:
    """One reference in a query's bank. ``bias`` is the logit bias of its keys; ``row_bias`` [B] adds a
    bias per query row (log of the hat weight). ``local`` references are read in the layers `Reading.only`."""

    harvest: Harvest
    bias: float = 0.0
    row_bias: Tensor | None = None
    local: bool = False


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
    and the ``readers``. ``joint`` lets all rows attend to each other (anchors only), to the tokens of
    ``choice`` where it is given. Own keys count ``own_weight`` times. Logits, without their biases, are
    multiplied by ``sharpness``. ``only`` names the layers in which ``own``, ``sharpness`` and local readers
    hold (None: all); in the others rows read themselves and the readers that are not local. ``injection``
    puts features of a source in place of the rows' own. ``replace`` may stand in for the attention of a
    layer. ``record`` asks that what the call leaves be kept for units after it."""

    readers: tuple[Reader, ...] = ()
    alignment: Alignment | None = None
    own: bool = True
    own_weight: int = 1
    joint: bool = False
    choice: TokenChoice | None = None
    replace: Replacement | None = None
    record: bool = False
    sharpness: float = 1.0
    only: frozenset[str] | None = None
    injection: Injection | None = None

    def at(self, layer: str) -> Reading:
        """The reading as it holds in ``layer``."""
        if self.only is None or layer in self.only:
            return self
        readers = tuple(reader for reader in self.readers if not reader.local)
        return replace(self, readers=readers, own=True, sharpness=1.0)

    @property
    def is_plain(self) -> bool:
        """Whether rows attend to themselves alone."""
        return self.own and not self.readers and not self.joint


#: Every row attends to itself and to nothing else.
ALONE = Reading()


def aligned_heads(alignment: Alignment | None, call: LayerCall) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [B, heads, L, d] of a call, queries and keys under ``alignment``."""
    q, k, v = call.heads()
    return (q, k, v) if alignment is None else (*align(alignment, call.key, q, k), v)


def align(alignment: Alignment, key: LayerKey, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """AdaIN of queries and keys [B, heads, L, d] of one layer."""
    style = alignment.style.layers[key]
    content = alignment.content.layers[key] if alignment.content else None
    q_moments, k_moments = (
        (content.q_moments, content.k_moments) if content else (pooled_moments(q), pooled_moments(k))
    )
    return adain(q, q_moments, style.q_moments), adain(k, k_moments, style.k_moments)


def attend(
    reading: Reading, key: LayerKey, q: Tensor, k: Tensor, v: Tensor, chosen: Chosen | None = None
) -> Tensor:
    """Attention of one layer; ``q``, ``k``, ``v`` [B, heads, L, d] of the rows themselves, aligned.
    ``chosen`` are the tokens of other rows that a joint reading sees (None: all)."""
    reading = reading.at(key[1])
    if reading.sharpness != 1.0:
        q = q * reading.sharpness
    if reading.is_plain:
        return F.scaled_dot_product_attention(q, k, v)
    parts = [_own_part(reading, k, v, chosen)] if reading.own or reading.joint else []
    parts += [_part(reader, key, q) for reader in reading.readers]
    all_k, all_v = (torch.cat(x, 2) for x in zip(*((part.k, part.v) for part in parts), strict=True))
    if not any(part.is_biased for part in parts):
        return F.scaled_dot_product_attention(q, all_k, all_v)
    return biased_attention(q, all_k, all_v, *_channels(parts, q))


@dataclass(frozen=True)
class _Part:
    """Keys and values [B, heads, N, d] of one source of a bank, a logit bias per key [N] (None: 0), and one
    per query row [B] (None: 0)."""

    k: Tensor
    v: Tensor
    bias: Tensor | None = None
    row_bias: Tensor | None = None

    @property
    def is_biased(self) -> bool:
        return self.bias is not None or self.row_bias is not None


def _own_part(reading: Reading, k: Tensor, v: Tensor, chosen: Chosen | None) -> _Part:
    rows, length = k.shape[0], k.shape[2]
    own = k.new_full((length,), math.log(reading.own_weight))
    if not reading.joint or rows == 1:
        return _Part(k, v, own if reading.own_weight > 1 else None)
    if chosen is None and reading.own_weight == 1:
        return _Part(as_one(k, rows), as_one(v, rows))
    index = torch.arange(length) if chosen is None else chosen.index
    count = k.new_zeros(length) if chosen is None else chosen.log_count.to(k)
    index = index.to(k.device)
    return _Part(_with_others(k, index), _with_others(v, index), torch.cat([own, count.repeat(rows - 1)]))


def _with_others(x: Tensor, index: Tensor) -> Tensor:
    """[B, heads, L, d] to [B, heads, L + (B-1) N, d]: each row whole, and N tokens of every other row."""
    cut = x[:, :, index]
    rows = [
        torch.cat([x[row], *(cut[other] for other in range(len(x)) if other != row)], 1)
        for row in range(len(x))
    ]
    return torch.stack(rows)


def _part(reader: Reader, key: LayerKey, q: Tensor) -> _Part:
    layer, rows = reader.harvest.layers[key], q.shape[0]
    k, v = as_one(layer.k, rows), as_one(layer.v, rows)
    if layer.log_count is not None:
        return _Part(k, v, layer.log_count.flatten().to(q) + reader.bias, reader.row_bias)
    bias = q.new_full((k.shape[2],), reader.bias) if reader.bias else None
    return _Part(k, v, bias, reader.row_bias)


def _channels(parts: Sequence[_Part], q: Tensor) -> tuple[Tensor, Tensor]:
    """``query_channels`` [B, 1 + R] and ``key_channels`` [N, 1 + R] of `biased_attention`: one channel for
    what is the same in all rows, and one for each part that rows weigh differently."""
    lengths = [part.k.shape[2] for part in parts]
    weighted = [n for n, part in enumerate(parts) if part.row_bias is not None]
    key_channels = q.new_zeros(sum(lengths), 1 + len(weighted))
    query_channels = q.new_ones(q.shape[0], 1 + len(weighted))
    spans = torch.tensor([0, *lengths]).cumsum(0).tolist()
    for n, part in enumerate(parts):
        if part.bias is not None:
            key_channels[spans[n] : spans[n + 1], 0] = part.bias
        if part.row_bias is not None:
            channel = 1 + weighted.index(n)
            key_channels[spans[n] : spans[n + 1], channel] = 1.0
            query_channels[:, channel] = part.row_bias.to(q)
    return query_channels, key_channels


def as_one(x: Tensor, rows: int) -> Tensor:
    """[R, heads, L, d] of R frames to [rows, heads, R L, d]: every query row sees all of them."""
    flat = x.transpose(0, 1).flatten(1, 2).unsqueeze(0)
    return flat.expand(rows, -1, -1, -1)
