"""Attention shared across frames: who attends to whom, and the context that makes a UNet do it.

    query frame  ->  [ itself | style | scene anchors | left knot, right knot ]

References are harvested by replaying their latent z_t through the network in calls of their own and fixed
shape: what they leave (keys, values, statistics per layer) is defined by that call alone, so it does not
matter who replays them, when, or beside which other frames.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from operators.attention.adain import Moments, adain, pooled_moments
from operators.attention.bias import biased_attention
from operators.attention.norms import GroupSums, group_sums, shared_group_norm


@dataclass(frozen=True)
class LayerHarvest:
    """What one self-attention layer leaves of a replay of R frames: ``k``, ``v`` [R, heads, L, d] and the
    pooled statistics of queries and keys before any alignment."""

    k: Tensor
    v: Tensor
    q_moments: Moments
    k_moments: Moments


@dataclass(frozen=True)
class Harvest:
    """A replayed reference at one step: per (guidance branch, layer name) its attention and norm facts."""

    layers: dict[tuple[str, str], LayerHarvest] = field(default_factory=dict)
    norms: dict[tuple[str, str], GroupSums] = field(default_factory=dict)


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


@dataclass
class _Call:
    readers: Sequence[Reader] = ()
    alignment: Alignment | None = None
    joint: bool = False
    record: Harvest | None = None


@dataclass
class SharedAttention:
    """State shared by the processors of one UNet. Use `install`; `branch` is set by the caller of the
    network ("cond" or "uncond"), since both branches keep banks of their own."""

    branch: str = "cond"
    _call: _Call = field(default_factory=_Call)

    @contextlib.contextmanager
    def reading(
        self,
        readers: Sequence[Reader] = (),
        *,
        alignment: Alignment | None = None,
        joint: bool = False,
    ) -> Iterator[None]:
        """Network calls inside attend to ``readers`` besides themselves; ``joint`` lets all rows of the
        batch attend to each other (anchors only)."""
        yield from self._during(_Call(tuple(readers), alignment, joint))

    def harvest(
        self,
        replay: Callable[[], object],
        readers: Sequence[Reader] = (),
        *,
        alignment: Alignment | None = None,
        joint: bool = False,
    ) -> Harvest:
        """Run ``replay`` (network calls of reference frames) and keep what each layer leaves."""
        record = Harvest()
        with torch.no_grad(), contextlib.contextmanager(self._during)(
            _Call(tuple(readers), alignment, joint, record=record)
        ):
            replay()
        return record

    def _during(self, call: _Call) -> Iterator[None]:
        previous, self._call = self._call, call
        try:
            yield
        finally:
            self._call = previous

    def attend(self, layer: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of one layer under the current call; ``q``, ``k``, ``v`` [B, heads, L, d]."""
        call, key = self._call, (self.branch, layer)
        q_own, k_own = (pooled_moments(q), pooled_moments(k)) if self._needs_moments() else (None, None)
        if call.alignment is not None:
            style = call.alignment.style.layers[key]
            content = call.alignment.content
            q = adain(q, content.layers[key].q_moments if content else q_own, style.q_moments)
            k = adain(k, content.layers[key].k_moments if content else k_own, style.k_moments)
        if call.record is not None:
            call.record.layers[key] = LayerHarvest(k, v, q_own, k_own)
        if not call.readers and not call.joint:
            return F.scaled_dot_product_attention(q, k, v)
        return _attend_to_bank(key, call, q, k, v)

    def normalise(self, layer: str, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        """GroupNorm of one layer under the current call; ``x`` [B, C, ...]."""
        call, key = self._call, (self.branch, layer)
        if call.record is not None:
            call.record.norms[key] = group_sums(norm, x)
        if call.alignment is not None and call.alignment.norms:
            return shared_group_norm(norm, x, call.alignment.style.norms[key])
        return F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)

    def _needs_moments(self) -> bool:
        alignment = self._call.alignment
        return self._call.record is not None or (alignment is not None and alignment.content is None)


def _attend_to_bank(key: tuple[str, str], call: _Call, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    rows = q.shape[0]
    keys, values = ([_as_one(k, rows)], [_as_one(v, rows)]) if call.joint else ([k], [v])
    biased = any(reader.bias or reader.row_bias is not None for reader in call.readers)
    static = [q.new_zeros(keys[0].shape[2])]
    weighted: list[tuple[int, int, Tensor]] = []
    at = keys[0].shape[2]
    for reader in call.readers:
        layer = reader.harvest.layers[key]
        keys.append(_as_one(layer.k, rows))
        values.append(_as_one(layer.v, rows))
        length = keys[-1].shape[2]
        static.append(q.new_full((length,), reader.bias))
        if reader.row_bias is not None:
            weighted.append((at, at + length, reader.row_bias.to(q)))
        at += length
    all_k, all_v = torch.cat(keys, 2), torch.cat(values, 2)
    if not biased:
        return F.scaled_dot_product_attention(q, all_k, all_v)
    key_channels = q.new_zeros(at, 1 + len(weighted))
    key_channels[:, 0] = torch.cat(static)
    query_channels = q.new_ones(rows, 1 + len(weighted))
    for channel, (first, last, row_bias) in enumerate(weighted, start=1):
        key_channels[first:last, channel] = 1.0
        query_channels[:, channel] = row_bias
    return biased_attention(q, all_k, all_v, query_channels, key_channels)


def _as_one(x: Tensor, rows: int) -> Tensor:
    """[R, heads, L, d] of R frames to [rows, heads, R L, d]: every query row sees all of them."""
    flat = x.transpose(0, 1).flatten(1, 2).unsqueeze(0)
    return flat.expand(rows, -1, -1, -1)


class Attends(Protocol):
    """What decides over the attention of a layer."""

    def attend(self, layer: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of one layer; ``q``, ``k``, ``v`` [B, heads, L, d]."""


class SharedSelfAttnProcessor:
    """Drop-in for diffusers' AttnProcessor2_0 on a self-attention layer."""

    def __init__(self, layer: str, session: Attends) -> None:
        self.layer, self.session = layer, session

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Self-attention over tokens [B, L, C]."""
        rows, _, channels = hidden_states.shape
        split = (rows, -1, attn.heads, channels // attn.heads)
        q = attn.to_q(hidden_states).view(split).transpose(1, 2)
        k = attn.to_k(hidden_states).view(split).transpose(1, 2)
        v = attn.to_v(hidden_states).view(split).transpose(1, 2)
        out = self.session.attend(self.layer, q, k, v)
        out = out.transpose(1, 2).reshape(rows, -1, channels)
        return attn.to_out[1](attn.to_out[0](out))


def shared_layers(unet: UNet2DConditionModel, *, decoder_only: bool) -> list[str]:
    """Names of the self-attention processors that share; the decoder carries appearance, at about half
    the price of all layers."""
    names = [name for name in unet.attn_processors if name.endswith("attn1.processor")]
    return [name for name in names if name.startswith("up_blocks")] if decoder_only else names


@contextlib.contextmanager
def install(unet: UNet2DConditionModel, *, decoder_only: bool = False) -> Iterator[SharedAttention]:
    """Let ``unet`` share attention inside the block; its own processors come back afterwards, whatever
    happens. Two UNets may be installed at once."""
    session = SharedAttention()
    before = unet.attn_processors
    layers = shared_layers(unet, decoder_only=decoder_only)
    norms = {name: module for name, module in unet.named_modules() if isinstance(module, nn.GroupNorm)}
    unet.set_attn_processor({**before, **{name: SharedSelfAttnProcessor(name, session) for name in layers}})
    for name, norm in norms.items():
        norm.forward = functools.partial(session.normalise, name, norm)
    try:
        yield session
    finally:
        unet.set_attn_processor(before)
        for norm in norms.values():
            del norm.forward
