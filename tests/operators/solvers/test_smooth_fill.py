"""Holes filled from their rims, against pictures whose fill is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from operators.solvers.smooth_fill import _fill, smooth_fill


def ramp(height: int, width: int) -> Tensor:
    """A picture that is linear in both coordinates: harmonic and biharmonic. [1, 3, H, W]."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    picture = rows / height - 0.5 * columns / width
    return torch.stack([picture, -picture, 0.3 + 0 * picture])[None]


def with_box(height: int, width: int, box: tuple[int, int, int, int]) -> Tensor:
    keep = torch.ones(height, width, dtype=torch.bool)
    top, left, h, w = box
    keep[top : top + h, left : left + w] = False
    return keep


@pytest.mark.parametrize("box", [(20, 30, 5, 7), (9, 12, 30, 33)], ids=["narrow", "wide"])
@pytest.mark.parametrize("order", [1, 2])
def test_a_ramp_goes_on_through_its_hole(box: tuple[int, int, int, int], order: int) -> None:
    x, keep = ramp(49, 65), with_box(49, 65, box)
    assert (_fill(x * keep, keep, order) - x).abs().max() < 0.03


def test_the_harmonic_fill_is_the_mean_of_its_four_neighbours() -> None:
    x = torch.randn(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    filled = _fill(x, with_box(24, 24, (10, 9, 4, 5)), 1)
    mean = sum(filled.roll(shift, axis) for shift in (1, -1) for axis in (2, 3)) / 4
    torch.testing.assert_close(filled[..., 10:14, 9:14], mean[..., 10:14, 9:14], rtol=0, atol=1e-3)


def test_what_is_measured_stays_and_what_is_hidden_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(1)
    x, keep = torch.randn(1, 3, 40, 48, generator=generator), with_box(40, 48, (0, 20, 12, 28))
    other = torch.where(keep, x, torch.randn(x.shape, generator=generator))
    filled = smooth_fill(x, keep)
    assert torch.equal(filled * keep, x * keep)
    assert torch.equal(smooth_fill(other, keep), filled)
    assert filled.abs().max() < 3 * x.abs().max()
    assert torch.equal(smooth_fill(x, torch.ones_like(keep)), x)


def test_rows_of_a_batch_are_bit_equal_to_rows_alone() -> None:
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    keep = with_box(32, 32, (6, 7, 15, 14))
    together = smooth_fill(x, keep)
    assert all(torch.equal(together[i : i + 1], smooth_fill(x[i : i + 1], keep)) for i in range(3))


def test_a_far_hole_does_not_change_how_one_is_filled_much() -> None:
    x = ramp(64, 64) + 0.1 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    one, two = with_box(64, 64, (10, 10, 6, 6)), with_box(64, 64, (50, 50, 3, 3))
    both = smooth_fill(x, one & two)
    torch.testing.assert_close(
        torch.where(one, x, both), torch.where(one, x, smooth_fill(x, one)), atol=0.02, rtol=0
    )
