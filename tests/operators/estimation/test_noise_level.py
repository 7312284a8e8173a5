"""The noise level of synthetic pictures whose noise is known."""

from __future__ import annotations

import numpy as np
import pytest

from operators.errors import OperatorError
from operators.estimation.noise_level import estimate_noise
from tests.operators.estimation.scenes import dead_leaves, noisy


@pytest.mark.parametrize("codes", [3.0, 8.0, 20.0])
def test_noise_on_a_grey_card_is_measured_within_three_percent(codes: float) -> None:
    card = noisy(np.full((3, 256, 320, 3), 128, dtype=np.uint8), codes, seed=1)
    expected = np.hypot(codes, 1 / np.sqrt(12.0)) / 255.0
    estimate = estimate_noise(card)
    assert estimate.sigma == pytest.approx(expected, rel=0.03)
    assert estimate.confidence > 0.9


@pytest.mark.parametrize("codes", [2.0, 5.0, 12.0, 25.0, 40.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noise_on_a_scene_full_of_edges_is_measured_within_a_tenth(codes: float, seed: int) -> None:
    scene = noisy(dead_leaves(256, 320, seed)[None], codes, seed)
    expected = np.hypot(codes, 1 / np.sqrt(12.0)) / 255.0
    assert estimate_noise(scene).sigma == pytest.approx(expected, rel=0.1, abs=0.4 / 255.0)


def test_a_clean_scene_has_hardly_more_than_the_noise_of_rounding() -> None:
    assert estimate_noise(dead_leaves(256, 320, 4)[None]).sigma < 1.0 / 255.0


def test_texture_everywhere_is_admitted_by_a_low_confidence() -> None:
    amplitude = np.random.default_rng(0).uniform(1.0, 40.0, (16, 20)).repeat(16, 0).repeat(16, 1)
    texture = np.random.default_rng(1).normal(0.0, 1.0, (256, 320)) * amplitude + 128.0
    frame = np.clip(texture, 0, 255).astype(np.uint8)[None, ..., None].repeat(3, -1)
    clean = noisy(np.full((1, 256, 320, 3), 128, dtype=np.uint8), 10.0, seed=1)
    assert estimate_noise(frame).confidence < 0.4 < estimate_noise(clean).confidence


def test_one_frame_of_another_kind_does_not_change_the_estimate_of_a_film() -> None:
    scene = dead_leaves(128, 160, 5)
    film = np.stack([noisy(scene, 6.0, seed) for seed in range(5)])
    spoiled = film.copy()
    spoiled[2] = noisy(scene, 60.0, 9)
    assert estimate_noise(spoiled).sigma == pytest.approx(estimate_noise(film).sigma, rel=0.05)
    assert estimate_noise(film[::-1]) == estimate_noise(film)
    assert estimate_noise(film).spread < 0.5 / 255.0


def test_sixteen_bit_frames_give_the_same_level_as_eight_bit_ones() -> None:
    film = noisy(dead_leaves(128, 160, 6)[None], 6.0, seed=3)
    wide = film.astype(np.uint16) * 257
    assert estimate_noise(wide).sigma == pytest.approx(estimate_noise(film).sigma, rel=1e-4)


def test_a_picture_of_black_and_white_alone_gives_no_level_and_says_so() -> None:
    stripes = np.zeros((1, 128, 160, 3), dtype=np.uint8)
    stripes[:, :, ::3] = 255
    assert estimate_noise(stripes).confidence == 0.0


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((128, 160, 3), np.uint8),
        np.zeros((1, 128, 160, 3), np.float32),
        np.zeros((0, 128, 160, 3), np.uint8),
        np.zeros((1, 31, 160, 3), np.uint8),
    ],
)
def test_frames_of_another_shape_or_type_are_refused(frames: np.ndarray) -> None:
    with pytest.raises(OperatorError, match="expected uint8 or uint16"):
        estimate_noise(frames)
