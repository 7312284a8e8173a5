"""Visibility, warps, chains and cells against motions that are known."""

from __future__ import annotations

import numpy as np
import pytest

from operators.flow.cells import at_cells
from operators.flow.dis import grey
from operators.flow.interval import motions_to_ends, small_grey
from operators.flow.motion import Motion, chain, comes_back, motion_between, motion_boundary
from operators.flow.warp import inside, warp
from tests.support.moving_pictures import codes, pan, texture

SIZE = (60, 80)


def uniform(x: float, y: float) -> np.ndarray:
    return np.full((*SIZE, 2), (x, y), np.float32)


def everywhere(flow: np.ndarray) -> Motion:
    return Motion(flow, inside(flow))


def test_a_warp_shows_what_lies_where_the_flow_points() -> None:
    here, there = texture(*SIZE), texture(*SIZE, at=(2.5, -1.25))
    warped = warp(there, uniform(2.5, -1.25))
    inner = inside(uniform(2.5, -1.25))
    # Bilinear interpolation of waves of 8 pixels and more.
    assert np.abs(warped - here)[inner].mean() < 0.01
    assert np.abs(there - here)[inner].mean() > 0.05


def test_integers_are_converted_before_they_are_mixed() -> None:
    picture = np.array([[0, 255], [0, 255]], np.uint8)
    assert warp(picture, np.full((2, 2, 2), (0.5, 0.0), np.float32))[0, 0] == pytest.approx(127.5)


def test_motion_that_returns_is_visible_and_motion_that_does_not_is_hidden() -> None:
    forward, backward = uniform(3, 0), uniform(-3, 0)
    assert comes_back(forward, backward)[:, :-3].all()
    assert not comes_back(forward, backward)[:, -3:].any()
    backward[20:30, 30:40] = (0, 0)
    # |w + wb|^2 = 9 against 0.01 (9 + 0) + 0.5, seen from three pixels to the left.
    seen = comes_back(forward, backward)
    assert not seen[21:29, 28:36].any()
    assert seen[40:, :60].all()


def test_the_bound_of_eq_5_is_where_the_paper_puts_it() -> None:
    # |w + wb|^2 = g^2 against 0.01 (100 + (10 - g)^2) + 0.5: equal at g = 1.4913.
    for gap, visible in ((1.48, True), (1.50, False)):
        assert comes_back(uniform(10, 0), uniform(gap - 10, 0))[30, 20] == visible


def test_the_edge_of_a_moving_object_is_a_motion_boundary_and_slow_growth_is_not() -> None:
    flow = uniform(0, 0)
    flow[20:40, 30:50] = (4, 0)
    edge = motion_boundary(flow)
    assert edge[30, 29]
    assert edge[30, 50]
    assert not edge[30, 40]
    assert not edge[5, 5]
    # Zooming by 2 % per frame: |grad|^2 = 2 * 0.02^2 stays below 0.002.
    rows, columns = np.mgrid[:60, :80].astype(np.float32)
    assert not motion_boundary(np.stack([0.02 * columns, 0.02 * rows], -1)).any()


def test_what_an_occluder_uncovers_and_hides_is_invisible_and_the_rest_is_not() -> None:
    height, width = 96, 160
    here, there = texture(height, width), texture(height, width)
    block = texture(height, width, seed=9)
    here[30:66, 40:80] = block[30:66, 40:80]
    there[30:66, 46:86] = block[30:66, 40:80]
    seen = motion_between(codes(here), codes(there)).visible
    # The six columns in front of the block are covered by it in the next frame.
    assert seen[36:60, 80:86].mean() < 0.1
    assert seen[36:60, 50:70].mean() > 0.9
    assert seen[:20].mean() > 0.9


def test_a_chain_of_uniform_motions_is_their_sum() -> None:
    motion = chain(everywhere(uniform(1.5, 0.5)), everywhere(uniform(2.25, -1)))
    assert np.allclose(motion.flow, (3.75, -0.5))
    seen = inside(uniform(3.75, -0.5)) & inside(uniform(1.5, 0.5))
    assert not (motion.visible & ~seen).any()
    # All four pixels around the middle point must be visible: that costs at most a row and a column.
    assert (seen & ~motion.visible).sum() <= 60 + 80


def test_a_chain_is_hidden_where_a_part_of_it_is() -> None:
    second = everywhere(uniform(0, 0))
    second.visible[10, 20] = False
    seen = chain(everywhere(uniform(4, 0)), second).visible
    assert not seen[10, 16]
    assert seen.sum() == 60 * 76 - 1
    between = chain(everywhere(uniform(3.5, 0)), second).visible
    assert not between[10, [16, 17]].any()


def test_a_rotation_composed_with_itself_is_the_rotation_by_twice_the_angle() -> None:
    rows, columns = np.mgrid[:60, :80].astype(np.float64)
    x, y = columns - 39.5, rows - 29.5

    def turned(angle: float) -> np.ndarray:
        c, s = np.cos(angle), np.sin(angle)
        return np.stack([c * x - s * y - x, s * x + c * y - y], -1).astype(np.float32)

    twice = chain(everywhere(turned(0.05)), everywhere(turned(0.05)))
    gap = np.abs(twice.flow - turned(0.1))[twice.visible]
    assert gap.max() < 1e-4


def test_frames_of_an_interval_find_both_its_ends() -> None:
    velocity = (1.5, -0.5)
    frames = [codes(frame) for frame in pan(7, velocity)]
    found = motions_to_ends(frames)
    assert len(found) == 5
    for i, ends in enumerate(found, 1):
        for motion, steps in ((ends.left, -i), (ends.right, 6 - i)):
            inner = motion.flow[20:-20, 20:-20].reshape(-1, 2)
            assert np.abs(np.median(inner, 0) - np.array(velocity) * steps).max() < 0.15
            assert motion.visible[25:-25, 25:-25].mean() > 0.9
    assert motions_to_ends(frames[:2]) == []


def test_small_greys_are_averages_and_never_nothing() -> None:
    picture = codes(texture(*SIZE))
    small = small_grey(picture, 0.25)
    assert small.shape == (15, 20)
    assert small.dtype == np.uint8
    assert np.abs(grey(picture).reshape(15, 4, 20, 4).mean((1, 3)) - small).max() <= 0.5
    assert np.array_equal(small_grey(picture.astype(np.uint16) * 257, 0.25), small)
    assert small_grey(picture[:3, :3], 0.1).shape == (1, 1)


def test_motion_at_cells_is_averaged_in_units_of_cells() -> None:
    flow = uniform(4, -2)
    flow[:4, :4] = (8, 0)
    motion = Motion(flow, np.ones(SIZE, bool))
    motion.visible[9, 13] = False
    cells = at_cells(motion, 15, 20)
    assert np.allclose(cells.flow[0, 0], (2, 0))
    assert np.allclose(cells.flow[5, 5], (1, -0.5))
    assert not cells.visible[2, 3]
    assert cells.visible.sum() == 15 * 20 - 1


def test_cells_in_the_padding_move_with_the_edge() -> None:
    flow = uniform(0, 0)
    flow[:, -1] = (4, 0)
    cells = at_cells(everywhere(flow), 16, 21, covered=(64, 84))
    assert not cells.visible[:, 20].any()
    assert cells.flow.shape == (16, 21, 2)
    assert np.allclose(cells.flow[:, 20], (1, 0))
    assert np.allclose(cells.flow[:, :19], 0)
