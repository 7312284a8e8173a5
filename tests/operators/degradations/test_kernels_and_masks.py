"""Blur kernels have the shape they are named after, and masks the holes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from operators.degradations.kernels import (
    anisotropic_gaussian_kernel,
    box_kernel,
    cubic_kernel,
    disk_kernel,
    gaussian_kernel,
    motion_kernel,
)
from operators.degradations.masks import mask_from_boxes, random_mask, stripe_mask
from operators.errors import OperatorError


def second_moments(kernel: Tensor) -> Tensor:
    """Covariance (2, 2) of a square kernel in x to the right and y upwards."""
    radius = kernel.shape[0] // 2
    grid = torch.arange(-radius, radius + 1, dtype=torch.float64)
    x, y = grid.expand_as(kernel), -grid[:, None].expand_as(kernel)
    offsets = torch.stack([x.flatten(), y.flatten()])
    return offsets * kernel.flatten() @ offsets.T


@pytest.mark.parametrize(
    "kernel",
    [
        gaussian_kernel(1.3),
        box_kernel(5),
        box_kernel(6),
        disk_kernel(3.2),
        motion_kernel(7.5, 20.0),
        anisotropic_gaussian_kernel(2.0, 0.7, 40.0),
    ],
)
def test_a_kernel_is_odd_normalised_not_negative_and_symmetric_about_its_centre(kernel: Tensor) -> None:
    assert all(side % 2 == 1 for side in kernel.shape)
    assert kernel.min() >= 0.0
    assert kernel.sum() == pytest.approx(1.0, abs=1e-12)
    torch.testing.assert_close(kernel, kernel.flip(tuple(range(kernel.ndim))))


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 160.0])
def test_an_anisotropic_gaussian_has_its_variances_along_and_across_its_angle(angle: float) -> None:
    covariance = second_moments(anisotropic_gaussian_kernel(3.0, 1.2, angle))
    direction = torch.tensor([math.cos(math.radians(angle)), math.sin(math.radians(angle))]).double()
    normal = torch.tensor([-direction[1], direction[0]])
    assert float(direction @ covariance @ direction) == pytest.approx(9.0, rel=0.01)
    assert float(normal @ covariance @ normal) == pytest.approx(1.44, rel=0.01)


@pytest.mark.parametrize("radius", [0.4, 1.0, 2.5, 6.3])
def test_a_disk_has_the_second_moment_of_a_uniform_disk(radius: float) -> None:
    covariance = second_moments(disk_kernel(radius))
    # Collecting an area in pixels adds the variance of a pixel only through its discretisation.
    assert abs(float(covariance[0, 0]) - radius**2 / 4.0) < 0.17
    assert float(covariance[0, 1]) == pytest.approx(0.0, abs=1e-12)


def test_the_cubic_kernel_interpolates_constants_and_straight_lines() -> None:
    kernel = cubic_kernel(3)
    offsets = torch.arange(12, dtype=torch.float64) - 5.5
    assert float(kernel.sum()) == pytest.approx(1.0, abs=1e-12)
    assert float((kernel * offsets).sum()) == pytest.approx(0.0, abs=1e-12)
    assert kernel.min() < 0.0


@given(share=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
@settings(max_examples=20, derandomize=True)
def test_a_random_mask_hides_its_share_of_the_pixels(share: float, seed: int) -> None:
    mask = random_mask(share, seed, 120, 150)
    spread = math.sqrt(share * (1.0 - share) / mask.size)
    assert abs((1.0 - mask.mean()) - share) < 5.0 * spread


def test_a_larger_random_mask_continues_a_smaller_one() -> None:
    small, large = random_mask(0.4, 3, 60, 70), random_mask(0.4, 3, 300, 310)
    assert np.array_equal(large[:60, :70], small)
    assert not np.array_equal(random_mask(0.4, 4, 60, 70), small)
    assert abs(np.corrcoef(large[:40, :40].flat, large[256:296, 256:296].flat)[0, 1]) < 0.1


def test_stripes_hide_their_lines_and_no_others() -> None:
    rows = stripe_mask(5, 2, 1, "horizontal", 11, 4)
    assert (rows == rows[:, :1]).all()
    assert rows[:, 0].tolist() == [1, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1]
    assert np.array_equal(stripe_mask(5, 2, 1, "vertical", 4, 11), rows.T)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: random_mask(1.0, 0, 8, 8), r"random\.share"),
        (lambda: stripe_mask(4, 4, 0, "vertical", 8, 8), r"stripes\.width"),
        (lambda: stripe_mask(4, 1, 0, "diagonal", 8, 8), r"stripes\.orientation"),
        (lambda: mask_from_boxes([[0, 0, 9, 1]], 8, 8), r"boxes\[0\]"),
        (lambda: disk_kernel(0.0), r"radius"),
        (lambda: box_kernel(0), r"side"),
        (lambda: anisotropic_gaussian_kernel(1.0, -1.0, 0.0), r"sigma_across"),
    ],
)
def test_an_impossible_kernel_or_mask_is_refused_by_field(make, named: str) -> None:
    with pytest.raises(OperatorError, match=named):
        make()
