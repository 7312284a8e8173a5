"""Nonlinear blur: a lens blurs light, not codes, and the corners more than the centre."""

from __future__ import annotations

import torch
from torch import Tensor

from operators.degradations.base import NonlinearOperator
from operators.degradations.blur import GaussianBlur, Padding


class LensBlur(NonlinearOperator):
    """y = C(W B_c L(x) + (1 - W) B_e L(x)).

    L takes codes to linear light (sRGB, IEC 61966-2-1, continued as a straight line below black), C = L^-1,
    B_c and B_e are Gaussian blurs of ``sigma`` and ``sigma_edge`` pixels, and the weight W falls with the
    squared distance from 1 at the centre to 0 in the corners. An analytic stand-in for learned blur models
    (DPS, Chung et al. 2023, nonlinear deblurring), without closed-form inverse.
    """

    def __init__(
        self, height: int, width: int, sigma: float, sigma_edge: float, padding: Padding = "reflect"
    ) -> None:
        super().__init__(height, width)
        self._centre = GaussianBlur(height, width, sigma, padding, 0.0)
        self._edge = GaussianBlur(height, width, sigma_edge, padding, 0.0)
        rows = torch.linspace(-1.0, 1.0, height, dtype=torch.float64)[:, None]
        columns = torch.linspace(-1.0, 1.0, width, dtype=torch.float64)
        self._weight = 1.0 - (rows.square() + columns.square()) / 2.0

    def apply(self, x: Tensor) -> Tensor:
        light = to_light(x)
        weight = self._weight.to(x.dtype).to(x.device)
        edge = self._edge.apply(light)
        return to_codes(edge + weight * (self._centre.apply(light) - edge))

    def classical(self, y: Tensor) -> Tensor:
        return y


def to_light(x: Tensor) -> Tensor:
    """Codes on [-1, 1] to linear light on [0, 1]; increasing and differentiable everywhere."""
    code = (x + 1.0) / 2.0
    power = ((code.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(code <= 0.04045, code / 12.92, power)


def to_codes(light: Tensor) -> Tensor:
    """Inverse of ``to_light``."""
    power = 1.055 * light.clamp_min(0.0031308) ** (1.0 / 2.4) - 0.055
    return 2.0 * torch.where(light <= 0.0031308, 12.92 * light, power) - 1.0
