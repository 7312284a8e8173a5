"""Blur kernels, float64, normalised to sum one, of odd sides."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from operators.errors import OperatorError

# Points per pixel and axis at which an area is sampled: a disk's edge is right to 1/256 of a pixel.
_SUPERSAMPLING = 16


def gaussian_kernel(sigma: float) -> Tensor:
    """1-D Gaussian, radius ceil(4 sigma) pixels."""
    if not sigma > 0.0:
        raise OperatorError(f"degradation.sigma: {sigma} is no blur width; give pixels above zero")
    radius = math.ceil(4.0 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma).square())
    return weights / weights.sum()


def anisotropic_gaussian_kernel(sigma: float, sigma_across: float, angle: float) -> Tensor:
    """Square 2-D Gaussian with standard deviation ``sigma`` pixels along ``angle`` and ``sigma_across``
    across it; ``angle`` in degrees anticlockwise from the x axis. Radius four of the larger one."""
    for name, value in (("sigma", sigma), ("sigma_across", sigma_across)):
        if not value > 0.0:
            raise OperatorError(f"degradation.{name}: {value} is no blur width; give pixels above zero")
    along, across = _rotated_grid(math.ceil(4.0 * max(sigma, sigma_across)), angle)
    weights = torch.exp(-0.5 * ((along / sigma).square() + (across / sigma_across).square()))
    return weights / weights.sum()


def disk_kernel(radius: float) -> Tensor:
    """Uniform disk of ``radius`` pixels, the blur of a lens out of focus, edges by area."""
    if not radius > 0.0:
        raise OperatorError(f"degradation.radius: {radius} is no blur width; give pixels above zero")
    reach = math.ceil(radius - 0.5)
    side = 2 * reach + 1
    step = torch.arange(side * _SUPERSAMPLING, dtype=torch.float64) + 0.5
    offsets = step / _SUPERSAMPLING - side / 2.0
    inside = (offsets.square() + offsets[:, None].square() <= radius**2).double()
    cells = inside.view(side, _SUPERSAMPLING, side, _SUPERSAMPLING).mean((1, 3))
    return cells / cells.sum()


def box_kernel(side: int) -> Tensor:
    """1-D mean over ``side`` pixels; an even side is centred by half weights at both ends."""
    if side < 1:
        raise OperatorError(f"degradation.side: {side} is no blur width; give at least one pixel")
    if side % 2:
        return torch.full((side,), 1.0 / side, dtype=torch.float64)
    weights = torch.ones(side + 1, dtype=torch.float64)
    weights[0] = weights[-1] = 0.5
    return weights / side


def motion_kernel(length: float, angle: float) -> Tensor:
    """Square line of ``length`` pixels at ``angle`` degrees anticlockwise from the x axis.

    The line is sampled densely and splatted bilinearly, so any angle sums to one.
    """
    if not length >= 1.0:
        raise OperatorError(f"degradation.length: {length} is no motion; give at least one pixel")
    radius = math.ceil((length - 1.0) / 2.0)
    samples = 16 * (2 * radius + 1) + 1
    along = torch.linspace(-(length - 1.0) / 2.0, (length - 1.0) / 2.0, samples, dtype=torch.float64)
    rows = radius - along * math.sin(math.radians(angle))
    columns = radius + along * math.cos(math.radians(angle))
    grid = torch.arange(2 * radius + 1, dtype=torch.float64)
    near_rows = (1.0 - (rows[:, None] - grid).abs()).clamp_min(0.0)
    near_columns = (1.0 - (columns[:, None] - grid).abs()).clamp_min(0.0)
    kernel = near_rows.T @ near_columns
    return kernel / kernel.sum()


def cubic_kernel(scale: int) -> Tensor:
    """1-D Keys cubic (a = -0.5) stretched by ``scale``, 4 scale taps at half-pixel offsets when even.

    The downsampling filter of DDRM's SRConv (Kawar et al. 2022); even length, unlike the others.
    """
    taps = 4 * scale
    offsets = (torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2.0).abs() / scale
    near = 1.5 * offsets**3 - 2.5 * offsets**2 + 1.0
    far = -0.5 * offsets**3 + 2.5 * offsets**2 - 4.0 * offsets + 2.0
    weights = torch.where(offsets <= 1.0, near, torch.where(offsets < 2.0, far, torch.zeros_like(far)))
    return weights / weights.sum()


def _rotated_grid(radius: int, angle: float) -> tuple[Tensor, Tensor]:
    """Pixel offsets along and across ``angle``, each (2 radius + 1, 2 radius + 1)."""
    grid = torch.arange(-radius, radius + 1, dtype=torch.float64)
    x, y = grid[None, :], -grid[:, None]
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return x * cosine + y * sine, y * cosine - x * sine
