"""PSNR and SSIM per picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Wang et al. 2004, section III-C: 11 x 11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03.
SSIM_RADIUS = 5
SSIM_SIGMA = 1.5
SSIM_K1 = 0.01
SSIM_K2 = 0.03


def psnr(x: Tensor, reference: Tensor, data_range: float) -> Tensor:
    """10 log10(data_range^2 / MSE) in dB per picture, [B]; infinite for equal pictures.

    ``x``, ``reference``: [B, C, H, W] whose values span ``data_range`` (2 for [-1, 1]).
    """
    mse = (x - reference).flatten(1).double().square().mean(1)
    return 10.0 * torch.log10(data_range**2 / mse)


def ssim(x: Tensor, reference: Tensor, data_range: float) -> Tensor:
    """Structural similarity per picture, [B], mean over channels and valid windows.

    Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity",
    eq. 13 with the window of section III-C. ``x``, ``reference``: [B, C, H, W], sides of 11 at least.
    """
    x, reference = x.double(), reference.double()
    mean_x, mean_r = _window_mean(x), _window_mean(reference)
    variance_x = _window_mean(x * x) - mean_x.square()
    variance_r = _window_mean(reference * reference) - mean_r.square()
    covariance = _window_mean(x * reference) - mean_x * mean_r
    c1, c2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
    luminance = (2.0 * mean_x * mean_r + c1) / (mean_x.square() + mean_r.square() + c1)
    structure = (2.0 * covariance + c2) / (variance_x + variance_r + c2)
    return (luminance * structure).flatten(1).mean(1)


def _window_mean(x: Tensor) -> Tensor:
    offsets = torch.arange(-SSIM_RADIUS, SSIM_RADIUS + 1, dtype=x.dtype, device=x.device)
    weights = torch.exp(-0.5 * (offsets / SSIM_SIGMA).square())
    weights = (weights / weights.sum()).expand(x.shape[1], 1, 1, -1)
    rows = F.conv2d(x, weights, groups=x.shape[1])
    return F.conv2d(rows, weights.transpose(2, 3), groups=x.shape[1])
