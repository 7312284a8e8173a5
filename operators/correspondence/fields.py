"""Matches between two frames in every layer, and how they look in a mirror."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from operators.attention.tokens import token_grid
from operators.correspondence.cosine import Matches, nearest
from operators.correspondence.window import BEST, WINDOW, fewest_cells, window_matches

#: Tokens [L, C] of one frame by layer.
Features = Mapping[str, Tensor]
#: Rows and columns of a token grid.
Grid = tuple[int, int]
#: Tokens of a frame and of a reference on one grid to the matches of the former in the latter.
Matcher = Callable[[Tensor, Tensor, Grid], Matches]


@dataclass(frozen=True)
class Field:
    """The matches of one frame's tokens in one reference, by layer, each with its token grid."""

    layers: Mapping[str, tuple[Grid, Matches]]

    def at(self, layer: str, mirrored: tuple[int, ...] = ()) -> Matches:
        """The matches in ``layer`` when both frames are mirrored along axes 2 (rows) or 3 (columns)."""
        grid, matches = self.layers[layer]
        return mirror_matches(matches, grid, mirrored)


def field_between(frame: Features, reference: Features, latent: Grid, match: Matcher) -> Field:
    """Match ``frame`` with ``reference`` in each layer; ``latent`` are rows and columns of their latents."""
    layers = {}
    for layer, tokens in frame.items():
        grid = token_grid(*latent, len(tokens))
        layers[layer] = (grid, match(tokens, reference[layer], grid))
    return Field(layers)


def everywhere(queries: Tensor, targets: Tensor, grid: Grid) -> Matches:
    """The most similar token of the whole reference (TokenFlow)."""
    return nearest(queries, targets)


def in_window(queries: Tensor, targets: Tensor, grid: Grid) -> Matches:
    """COVE's window and number of matches, fewer on grids that have not as many cells."""
    return window_matches(queries, targets, grid, best=min(BEST, fewest_cells(grid, WINDOW)))


def mirror_matches(matches: Matches, grid: Grid, axes: tuple[int, ...]) -> Matches:
    """What the matches become when both frames are mirrored along ``axes`` of [B, C, h, w]."""
    if not axes:
        return matches
    cells = torch.arange(grid[0] * grid[1], device=matches.index.device).view(1, 1, *grid)
    mirror = cells.flip(axes).flatten()
    return Matches(mirror[matches.index[mirror]], matches.similarity[mirror])
