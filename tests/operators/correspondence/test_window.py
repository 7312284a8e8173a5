"""Sliding-window matches and their chain, against motion that is known."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.correspondence.cosine import Matches
from operators.correspondence.window import window_matches
from operators.errors import OperatorError

SIZE = (12, 14)


def frame(shift: tuple[int, int] = (0, 0), seed: int = 3, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """Tokens [h w, C] of a window into a large random picture, moved by ``shift`` cells (y, x)."""
    world = torch.randn(40, 40, 16, generator=torch.Generator().manual_seed(seed))
    y, x = 14 - shift[0], 14 - shift[1]
    return world[y : y + size[0], x : x + size[1]].reshape(-1, 16)


def chained(steps: list[Matches]) -> list[Matches]:
    """Matches in every following frame, traced through the best match of each frame, as COVE does; the
    product takes direct matches in the knots instead. ``steps[j]``: of frame j's tokens in frame j + 1."""
    traced = [steps[0]]
    for step in steps[1:]:
        at = traced[-1].index[:, 0]
        traced.append(Matches(step.index[at], step.similarity[at]))
    return traced


@given(dy=st.integers(-2, 2), dx=st.integers(-2, 2))
@settings(max_examples=25)
def test_a_motion_within_the_window_is_recovered_exactly(dy: int, dx: int) -> None:
    found = window_matches(frame(), frame((dy, dx)), SIZE, window=5, best=2)
    height, width = SIZE
    for y in range(height):
        for x in range(width):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                assert found.index[y * width + x, 0] == (y + dy) * width + x + dx
                assert found.similarity[y * width + x, 0] > 0.999


def test_a_motion_beyond_the_window_is_not_found() -> None:
    found = window_matches(frame(), frame((0, 3)), SIZE, window=5, best=1)
    assert found.similarity.median() < 0.95


def test_matches_are_the_best_of_the_window_in_falling_order_and_stay_inside_it() -> None:
    queries, targets = frame(seed=3), frame(seed=4)
    found = window_matches(queries, targets, SIZE, window=5, best=4)
    unit = torch.nn.functional.normalize
    table = unit(queries, dim=1) @ unit(targets, dim=1).T
    cells = torch.arange(SIZE[0] * SIZE[1])
    y, x = cells // SIZE[1], cells % SIZE[1]
    near = ((y[:, None] - y[None]).abs() <= 2) & ((x[:, None] - x[None]).abs() <= 2)
    expected = table.masked_fill(~near, -2.0).topk(4, dim=1)
    torch.testing.assert_close(found.similarity, expected.values)
    assert torch.equal(found.index, expected.indices)


def test_a_flat_frame_matches_the_top_left_of_the_clipped_window() -> None:
    flat = torch.ones(9, 4)
    found = window_matches(flat, flat, (3, 3), window=3, best=1)
    assert found.index[:, 0].tolist() == [0, 0, 1, 0, 0, 1, 3, 3, 4]


def test_a_chain_over_frames_follows_motion_that_no_single_window_reaches() -> None:
    frames = [frame((0, 2 * n)) for n in range(4)]
    steps = [window_matches(a, b, SIZE, window=5, best=2) for a, b in itertools.pairwise(frames)]
    traced = chained(steps)
    width = SIZE[1]
    for n, matches in enumerate(traced, start=1):
        staying = [c for c in range(SIZE[0] * width) if c % width + 2 * n < width]
        assert [int(matches.index[c, 0]) for c in staying] == [c + 2 * n for c in staying]


def test_where_little_moves_direct_matches_are_those_of_the_chain() -> None:
    frames = [frame((0, n)) for n in range(3)]
    steps = [window_matches(a, b, SIZE, window=5, best=1) for a, b in itertools.pairwise(frames)]
    direct = window_matches(frames[0], frames[2], SIZE, window=5, best=1)
    inside = torch.arange(SIZE[0] * SIZE[1]) % SIZE[1] < SIZE[1] - 2
    assert torch.equal(chained(steps)[-1].index[inside], direct.index[inside])


@pytest.mark.parametrize(("window", "best"), [(4, 1), (0, 1), (3, 5), (3, 0)])
def test_impossible_windows_are_refused(window: int, best: int) -> None:
    with pytest.raises(OperatorError, match=r"window|best"):
        window_matches(frame(), frame(), SIZE, window=window, best=best)


def test_a_picture_smaller_than_the_matches_asked_for_is_refused() -> None:
    with pytest.raises(OperatorError, match="2x1 cells"):
        window_matches(torch.ones(2, 4), torch.ones(2, 4), (1, 2), window=9, best=3)
