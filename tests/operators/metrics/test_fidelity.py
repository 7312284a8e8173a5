"""PSNR and SSIM against hand-computed values and their defining properties."""

from __future__ import annotations

import pytest
import torch

from operators.metrics.fidelity import psnr, ssim


def picture(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_psnr_of_a_constant_offset_is_known() -> None:
    x = picture(0, 2, 3, 16, 16)
    offset = torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    expected = torch.tensor([20.0, 40.0], dtype=torch.float64)
    torch.testing.assert_close(psnr(x + offset, x, 1.0), expected, rtol=0, atol=1e-3)


def test_psnr_does_not_change_when_pictures_and_range_are_scaled_together() -> None:
    x, r = picture(1, 2, 3, 16, 16), picture(2, 2, 3, 16, 16)
    torch.testing.assert_close(psnr(x, r, 1.0), psnr(2 * x - 1, 2 * r - 1, 2.0), rtol=1e-6, atol=0)


def test_psnr_of_equal_pictures_is_infinite() -> None:
    x = picture(3, 1, 3, 8, 8)
    assert psnr(x, x, 1.0).isinf().all()


def test_ssim_of_equal_pictures_is_one() -> None:
    x = picture(4, 2, 3, 20, 24)
    torch.testing.assert_close(ssim(x, x, 1.0), torch.ones(2).double())


def test_ssim_of_two_constant_pictures_is_their_luminance_term() -> None:
    a, b = torch.full((1, 1, 16, 16), 0.25), torch.full((1, 1, 16, 16), 0.75)
    c1 = 0.01**2
    expected = (2 * 0.25 * 0.75 + c1) / (0.25**2 + 0.75**2 + c1)
    assert ssim(a, b, 1.0).item() == pytest.approx(expected, abs=1e-9)


def test_ssim_of_a_window_sized_picture_matches_the_formula_written_out() -> None:
    x, r = picture(5, 1, 1, 11, 11).double(), picture(6, 1, 1, 11, 11).double()
    g = torch.exp(-0.5 * ((torch.arange(11).double() - 5) / 1.5) ** 2)
    w = torch.outer(g, g)
    w = w / w.sum()
    mx, mr = (w * x).sum(), (w * r).sum()
    vx, vr, cov = (w * (x - mx) ** 2).sum(), (w * (r - mr) ** 2).sum(), (w * (x - mx) * (r - mr)).sum()
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * mx * mr + c1) * (2 * cov + c2) / ((mx**2 + mr**2 + c1) * (vx + vr + c2))
    assert ssim(x, r, 1.0).item() == pytest.approx(expected.item(), abs=1e-12)


def test_noise_lowers_ssim_monotonically() -> None:
    x = picture(7, 1, 3, 32, 32)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(8))
    values = [ssim(x + s * noise, x, 1.0).item() for s in (0.02, 0.1, 0.3)]
    assert values[0] > values[1] > values[2]
