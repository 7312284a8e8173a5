"""The blur of synthetic pictures whose blur is known."""

from __future__ import annotations

import numpy as np
import pytest

from operators.estimation.blur_width import estimate_blur
from tests.operators.estimation.scenes import blurred, dead_leaves, noisy


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.5, 4.0])
@pytest.mark.parametrize("codes", [0.0, 5.0])
def test_the_edges_of_a_blurred_scene_are_as_wide_as_the_blur(sigma: float, codes: float) -> None:
    scene = dead_leaves(256, 320, 1)
    frame = noisy(blurred(scene, sigma), codes, seed=2)[None]
    estimate = estimate_blur(frame, codes / 255.0)
    assert estimate.edge_width == pytest.approx(np.hypot(sigma, 0.3), rel=0.12)
    assert estimate.confidence > 0.7


def test_a_sharp_scene_has_no_blur_to_undo() -> None:
    assert estimate_blur(dead_leaves(256, 320, 2)[None]).sigma < 0.3


def test_wider_blur_is_never_taken_for_narrower() -> None:
    scene = dead_leaves(256, 320, 3)
    widths = [
        estimate_blur(blurred(scene, sigma)[None]).edge_width for sigma in (0.7, 1.0, 1.5, 2.0, 3.0, 5.0)
    ]
    assert all(np.diff(widths) > 0.1)


def test_a_film_has_the_width_of_most_of_its_frames() -> None:
    scenes = [blurred(dead_leaves(128, 160, seed), 2.0) for seed in range(4)]
    film = np.stack([*scenes, dead_leaves(128, 160, 9)])
    assert estimate_blur(film).edge_width == pytest.approx(2.0, rel=0.12)
    assert estimate_blur(film[::-1]) == estimate_blur(film)


def test_a_film_without_edges_gives_no_width_and_says_so() -> None:
    flat = np.full((2, 128, 160, 3), 90, dtype=np.uint8)
    grainy = noisy(flat, 4.0, seed=1)
    assert estimate_blur(flat).confidence == 0.0
    assert estimate_blur(grainy, 4.0 / 255.0).confidence == 0.0
