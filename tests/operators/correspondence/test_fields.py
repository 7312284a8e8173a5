"""Fields over layers: grids, mirrors, and features of a real network."""

from __future__ import annotations

import pytest
import torch

from operators.correspondence.fields import (
    everywhere,
    field_between,
    in_window,
    mirror_matches,
)
from operators.correspondence.window import window_matches


def tokens(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn(rows * columns, 8, generator=torch.Generator().manual_seed(seed))


def flipped(x: torch.Tensor, grid: tuple[int, int], axes: tuple[int, ...]) -> torch.Tensor:
    return x.T.reshape(1, 8, *grid).flip(axes).reshape(8, -1).T


@pytest.mark.parametrize("axes", [(), (2,), (3,), (2, 3)])
def test_matches_of_mirror_images_are_the_mirrored_matches(axes: tuple[int, ...]) -> None:
    grid = (5, 7)
    a, b = tokens(*grid, 1), tokens(*grid, 2)
    direct = window_matches(flipped(a, grid, axes), flipped(b, grid, axes), grid, window=3, best=2)
    mirrored = mirror_matches(window_matches(a, b, grid, window=3, best=2), grid, axes)
    assert torch.equal(mirrored.index, direct.index)
    torch.testing.assert_close(mirrored.similarity, direct.similarity)


def test_each_layer_is_matched_on_its_own_grid() -> None:
    frame = {"fine": tokens(8, 8, 1), "coarse": tokens(2, 2, 2)}
    reference = {"fine": tokens(8, 8, 1).flip(0), "coarse": tokens(2, 2, 2)}
    far = field_between(frame, reference, (8, 8), everywhere)
    assert torch.equal(far.at("fine").index[:, 0], torch.arange(64).flip(0))
    assert far.at("coarse").index[:, 0].tolist() == [0, 1, 2, 3]
    near = field_between(frame, reference, (8, 8), in_window)
    assert near.at("fine").index.shape == (64, 3)
    assert near.at("coarse").index.shape == (4, 3)
    assert near.at("coarse", (3,)).index[:, 0].tolist() == [0, 1, 2, 3]


def test_a_grid_of_one_cell_has_one_match() -> None:
    one = {"layer": tokens(1, 1, 1)}
    assert field_between(one, one, (4, 4), in_window).at("layer").index.tolist() == [[0]]
