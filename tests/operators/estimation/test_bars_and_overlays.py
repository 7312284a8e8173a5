"""Bars and logos that were put there, and none that were not."""

from __future__ import annotations

import numpy as np
import pytest

from operators.estimation.bars import Bars, find_bars
from operators.estimation.degradation import estimate_degradation
from operators.estimation.overlays import find_overlays
from tests.operators.estimation.scenes import blurred, dead_leaves, noisy, pan, with_logo


def overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Intersection over union of two boxes [x, y, width, height]."""
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0, wide) * max(0, high)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


@pytest.mark.parametrize("codes", [0.0, 4.0])
@pytest.mark.parametrize("box", [(20, 14, 52, 30), (200, 120, 64, 34)])
def test_a_logo_over_a_moving_scene_is_found_where_it_is(box, codes: float) -> None:
    film = noisy(with_logo(pan(200, 300, 16, 1), box), codes, seed=2)
    found = find_overlays(film, codes / 255.0)
    assert len(found.boxes) == 1
    assert overlap(found.boxes[0], box) > 0.8
    assert found.moving > 0.6
    assert found.confidence > 0.2


def test_two_logos_are_told_apart_largest_first() -> None:
    small, large = (16, 16, 40, 24), (180, 130, 90, 40)
    film = with_logo(with_logo(pan(200, 300, 16, 2), small), large)
    boxes = find_overlays(film).boxes
    assert len(boxes) == 2
    assert overlap(boxes[0], large) > 0.8
    assert overlap(boxes[1], small) > 0.8


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_moving_scene_without_a_logo_has_no_boxes(seed: int) -> None:
    found = find_overlays(noisy(pan(200, 300, 16, seed), 2.0, seed), 2.0 / 255.0)
    assert found.boxes == ()


def test_a_camera_that_stands_still_leaves_the_question_open() -> None:
    still = np.repeat(with_logo(dead_leaves(200, 300, 3)[None], (20, 14, 52, 30)), 16, axis=0)
    found = find_overlays(noisy(still, 2.0, 1), 2.0 / 255.0)
    assert found.boxes == ()
    assert found.moving < 0.1
    assert found.confidence == 0.0


@pytest.mark.parametrize("bars", [(24, 24, 0, 0), (0, 0, 40, 38), (10, 0, 0, 0)])
def test_black_bars_are_measured_to_the_row_and_a_logo_is_found_beside_them(bars) -> None:
    top, bottom, left, right = bars
    box = (120, 60, 60, 34)
    film = with_logo(pan(200, 300, 16, 4), box)
    film[:, :top] = film[:, 200 - bottom :] = 16
    film[:, :, :left] = film[:, :, 300 - right :] = 16
    estimate = estimate_degradation(noisy(film, 1.5, 1))
    assert estimate.bars == Bars(*bars)
    assert len(estimate.overlays.boxes) == 1
    assert overlap(estimate.overlays.boxes[0], box) > 0.8


def test_a_fade_to_black_makes_no_bars() -> None:
    film = pan(200, 300, 16, 5)
    film[-4:] = 12
    film[:4, :100] = 12
    assert find_bars(film) == Bars()
    assert find_bars(film[-4:]) == Bars()


def test_too_few_frames_show_no_overlay() -> None:
    found = find_overlays(with_logo(pan(200, 300, 4, 6), (120, 60, 60, 34)))
    assert found.boxes == ()
    assert found.confidence == 0.0


def test_bars_and_overlays_do_not_count_as_film_when_noise_and_blur_are_measured() -> None:
    film = noisy(np.stack([blurred(frame, 2.0) for frame in pan(200, 300, 12, 7)]), 6.0, 1)
    covered = with_logo(film, (120, 60, 80, 40))
    covered[:, :30] = 16
    plain, seen = estimate_degradation(film), estimate_degradation(covered)
    assert seen.noise.sigma == pytest.approx(plain.noise.sigma, rel=0.05)
    assert seen.blur.edge_width == pytest.approx(plain.blur.edge_width, rel=0.1)
