"""Hat weights: they sum to one, vanish where a knot leaves, and do not know chunks."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.attention.hat import Bracket, bracket

grids = st.lists(st.integers(0, 400), min_size=2, max_size=12, unique=True).map(sorted)


@given(grids, st.data())
def test_weights_sum_to_one_and_brackets_surround_the_frame(grid: list[int], data: st.DataObject) -> None:
    frame = data.draw(st.integers(grid[0], grid[-1]))
    found = bracket(frame, grid)
    assert found.left_weight + found.right_weight == pytest.approx(1)
    assert found.left <= frame <= found.right
    assert {found.left, found.right} <= set(grid)


@given(grids, st.data())
def test_the_weight_of_every_knot_changes_by_at_most_one_step_between_neighbours(
    grid: list[int], data: st.DataObject
) -> None:
    frame = data.draw(st.integers(grid[0], grid[-1] - 1))

    def weights(found: Bracket) -> dict[int, float]:
        return {found.right: found.right_weight, found.left: found.left_weight}

    here, there = weights(bracket(frame, grid)), weights(bracket(frame + 1, grid))
    narrowest = min(b - a for a, b in itertools.pairwise(grid))
    for knot in {*here, *there}:
        assert abs(here.get(knot, 0.0) - there.get(knot, 0.0)) <= 1 / narrowest + 1e-12


@given(grids, st.data())
def test_a_longer_grid_around_the_frame_changes_nothing(grid: list[int], data: st.DataObject) -> None:
    frame = data.draw(st.integers(grid[0], grid[-1]))
    longer = [grid[0] - 7, *grid, grid[-1] + 9]
    assert bracket(frame, longer) == bracket(frame, grid)


def test_hard_brackets_give_the_nearer_knot_everything() -> None:
    assert bracket(3, (0, 8), hard=True) == Bracket(0, 8, 1.0, 0.0)
    assert bracket(4, (0, 8), hard=True) == Bracket(0, 8, 1.0, 0.0)
    assert bracket(5, (0, 8), hard=True) == Bracket(0, 8, 0.0, 1.0)


def test_a_frame_outside_the_grid_is_an_error() -> None:
    with pytest.raises(ValueError, match="outside"):
        bracket(9, (0, 8))
