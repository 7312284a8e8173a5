"""Bounded banks: which tokens of a reference others read.

Self-attention costs (tokens)^2, and references multiply it. A reference therefore keeps at most a budget of
tokens per layer, so that what it adds grows linearly in the number of pixels. One token stays of every s x s
cell of the layer's grid (stratified, so that no region loses its voice), drawn by what the choice is for: all
frames read the same tokens, whoever computes them. A kept token speaks for its cell: log(cell size) is added
to its logits, which makes the sum over the kept tokens an unbiased estimate of the softmax's sums over all.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from operators.errors import OperatorError
from operators.noise import keyed_generator

Key = tuple[int | str, ...]


@dataclass(frozen=True)
class Budgets:
    """Tokens per layer that stay of a ``reference`` (style, knot, another anchor in the joint pass) and of
    an ``anchor``; ``merge`` is the share of the tokens of anchors 2.. that is merged into the first where
    anchors are cut."""

    reference: int = 1024
    anchor: int = 256
    merge: float = 0.5


BOUNDED = Budgets()


@dataclass(frozen=True)
class Chosen:
    """``index`` int64 [N] of the tokens that stay (ascending cells, row by row) and ``log_count`` [N] of
    how many each speaks for."""

    index: Tensor
    log_count: Tensor


@dataclass(frozen=True)
class TokenChoice:
    """At most ``budget`` tokens per layer, drawn by ``key`` (what the choice is for) and the layer's name."""

    budget: int
    key: Key

    def of(self, layer: str, height: int, width: int) -> Chosen | None:
        """The choice on a grid of ``height`` x ``width`` tokens; None where all stay."""
        if height * width <= self.budget:
            return None
        return _stratified(height, width, self.budget, (*self.key, layer))


def token_grid(height: int, width: int, tokens: int) -> tuple[int, int]:
    """Grid of a layer with ``tokens`` tokens in a UNet on latents [.., height, width], whose sides are
    halved, rounding up, from level to level. Raises OperatorError where no level has as many."""
    while height * width > tokens and height * width > 1:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != tokens:
        raise OperatorError(f"no level of the network has {tokens} tokens on a latent of this size")
    return height, width


@functools.lru_cache(maxsize=512)
def _stratified(height: int, width: int, budget: int, key: Key) -> Chosen:
    side = 2
    while -(-height // side) * -(-width // side) > budget:
        side += 1
    rows, row_sizes = _cells(height, side)
    columns, column_sizes = _cells(width, side)
    draws = torch.rand(2, len(rows), len(columns), generator=keyed_generator("tokens", *key, height, width))
    y = rows[:, None] + (draws[0] * row_sizes[:, None]).long()
    x = columns[None] + (draws[1] * column_sizes[None]).long()
    counts = row_sizes[:, None] * column_sizes[None]
    return Chosen((y * width + x).flatten(), counts.flatten().float().log())


def _cells(length: int, side: int) -> tuple[Tensor, Tensor]:
    """First index and size of the cells along one axis; the last may be smaller."""
    first = torch.arange(0, length, side)
    return first, (length - first).clamp_max(side)
