"""Downsampling by an integer factor: block means, or bicubic with antialiasing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.degradations.kernels import cubic_kernel
from operators.degradations.separable import SeparableOperator
from operators.errors import OperatorError


class AreaDownsampling(ForwardOperator):
    """y = mean over scale x scale blocks.

    A A^T = I / scale^2, A^+ = nearest-neighbour upsampling, prox in closed form.
    """

    def __init__(self, height: int, width: int, scale: int) -> None:
        _require_divisible(height, width, scale)
        super().__init__(height, width)
        self.scale = scale

    def apply(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.scale)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.pinv(y) / self.scale**2

    def pinv(self, y: Tensor) -> Tensor:
        return F.interpolate(y, scale_factor=self.scale, mode="nearest")

    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        # A A^T = c I gives prox = x - gamma / (1 + gamma c) A^T (A x - y).
        c = 1.0 / self.scale**2
        return x - gamma / (1.0 + gamma * c) * self.adjoint(self.apply(x) - y)

    def classical(self, y: Tensor) -> Tensor:
        return bicubic_upsample(y, self.scale)


class BicubicDownsampling(SeparableOperator):
    """y = antialiased bicubic downsampling, as ``F.interpolate(mode="bicubic", antialias=True)``."""

    def __init__(self, height: int, width: int, scale: int) -> None:
        _require_divisible(height, width, scale)
        super().__init__(bicubic_matrix(height, scale), bicubic_matrix(width, scale))
        self.scale = scale

    def classical(self, y: Tensor) -> Tensor:
        return bicubic_upsample(y, self.scale)


class CubicSubsampling(SeparableOperator):
    """y = every ``scale``-th pixel of x filtered by the stretched cubic kernel, borders mirrored.

    The SRConv operator of DDRM (Kawar et al. 2022). Differs from ``BicubicDownsampling`` near the borders.
    """

    def __init__(self, height: int, width: int, scale: int) -> None:
        _require_divisible(height, width, scale)
        kernel = cubic_kernel(scale)
        left = subsampling_matrix(kernel, height, scale)
        super().__init__(left, subsampling_matrix(kernel, width, scale))
        self.scale = scale

    def classical(self, y: Tensor) -> Tensor:
        return bicubic_upsample(y, self.scale)


def bicubic_upsample(y: Tensor, scale: int) -> Tensor:
    """Plain bicubic interpolation, pixel centres aligned as in ``align_corners=False``."""
    return F.interpolate(y, scale_factor=scale, mode="bicubic", align_corners=False)


def bicubic_matrix(length: int, scale: int) -> Tensor:
    """The 1-D antialiased bicubic filter as a float64 matrix (length / scale, length)."""
    eye = torch.eye(length, dtype=torch.float64)[None, None]
    return F.interpolate(eye, size=(length // scale, length), mode="bicubic", antialias=True)[0, 0]


def subsampling_matrix(kernel: Tensor, length: int, scale: int) -> Tensor:
    """1-D filtering by ``kernel`` and keeping every ``scale``-th value, float64 (length / scale, length).

    Row i is centred on the middle of its block of ``scale`` pixels; the borders are mirrored, the edge
    pixel included, as often as the kernel needs.
    """
    taps = torch.arange(len(kernel)) - len(kernel) // 2
    centres = torch.arange(length // scale) * scale + scale // 2
    places = (centres[:, None] + taps) % (2 * length)
    places = torch.where(places >= length, 2 * length - 1 - places, places)
    matrix = torch.zeros(length // scale, length, dtype=torch.float64)
    return matrix.scatter_add_(1, places, kernel.expand(len(centres), -1))


def _require_divisible(height: int, width: int, scale: int) -> None:
    if scale < 1 or height % scale or width % scale:
        raise OperatorError(
            f"degradation.scale: {scale} does not divide the restored size {width}x{height}; "
            "use a factor that divides both sides"
        )
