"""Warp error and boundary index on motions that are known."""

from __future__ import annotations

import numpy as np
import pytest

from operators.metrics.temporal import boundary_index, motions, warp_errors

RNG = np.random.Generator(np.random.PCG64(3))


def panning(count: int = 5, step: int = 3) -> np.ndarray:
    """A smooth random texture that moves ``step`` pixels to the left per frame, uint8 [n, 96, 128, 3]."""
    import cv2

    wide = cv2.GaussianBlur(RNG.uniform(0, 255, (96, 128 + step * count, 3)), (0, 0), 2.5)
    wide = (wide - wide.min()) / (wide.max() - wide.min()) * 255
    return np.stack([wide[:, step * i : step * i + 128] for i in range(count)]).astype(np.uint8)


def test_the_flow_of_a_pan_is_the_pan_and_its_warp_error_is_nearly_nothing() -> None:
    frames = panning()
    found = motions(frames)
    inner = found[0].flow[20:-20, 20:-20]
    assert np.abs(np.median(inner.reshape(-1, 2), axis=0) - (-3.0, 0.0)).max() < 0.2
    assert found[0].visible.mean() > 0.6
    assert warp_errors(frames, found).max() < 1e-4


@pytest.mark.parametrize("sigma", [4.0, 8.0])
def test_independent_noise_costs_about_twice_its_variance(sigma: float) -> None:
    frames = np.repeat(np.full((1, 64, 64, 3), 128, np.uint8), 4, 0)
    noisy = np.clip(frames + sigma * RNG.standard_normal(frames.shape), 0, 255).round().astype(np.uint8)
    errors = warp_errors(noisy, motions(frames))
    assert errors == pytest.approx(2 * (sigma / 255) ** 2, rel=0.1)


def test_what_is_uncovered_counts_as_invisible() -> None:
    frames = panning(2, step=12)
    frames[1, 30:60, 40:80] = 255
    (motion,) = motions(frames)
    assert motion.visible[35:55, 55:85].mean() < motion.visible[65:90, 20:100].mean()


def test_the_boundary_index_compares_pairs_across_borders_with_the_median_of_the_others() -> None:
    errors = np.array([1.0, 1.0, 4.0, 1.0, 1.0, 1.0, 2.0])
    assert boundary_index(errors, {3, 7}) == pytest.approx(3.0)
    assert boundary_index(np.ones(7), {3}) == 1.0
