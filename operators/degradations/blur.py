"""Blur by a known kernel, with reflected or periodic borders."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.degradations.kernels import box_kernel, gaussian_kernel
from operators.degradations.noise_models import MINIMAL_NOISE, GaussianNoise
from operators.degradations.normal_equations import regularised_solution
from operators.degradations.separable import SINGULAR_THRESHOLD, SeparableOperator
from operators.errors import OperatorError

Padding = Literal["reflect", "circular"]

# Wiener-type baseline: standard deviation on [-1, 1] of the detail a blur removes from natural pictures.
DETAIL_STD = 0.1


class SeparableBlur(SeparableOperator):
    """y = x correlated with one odd 1-D ``kernel`` along rows and along columns.

    ``noise``: the measurement's standard deviation on [-1, 1].
    """

    def __init__(self, height: int, width: int, kernel: Tensor, padding: Padding, noise: float) -> None:
        left = convolution_matrix(kernel, height, padding)
        super().__init__(left, convolution_matrix(kernel, width, padding))
        self.noise_model = GaussianNoise(noise)

    def classical(self, y: Tensor) -> Tensor:
        """Wiener-type deconvolution towards ``y`` itself; see ``wiener_weight``."""
        return self.prox(y, y, wiener_weight(self.noise_model.sigma))


class GaussianBlur(SeparableBlur):
    """y = x blurred by an isotropic Gaussian of ``sigma`` pixels, truncated at four standard deviations."""

    def __init__(self, height: int, width: int, sigma: float, padding: Padding, noise: float) -> None:
        super().__init__(height, width, gaussian_kernel(sigma), padding, noise)


class BoxBlur(SeparableBlur):
    """y = means over squares of ``side`` pixels; an even side is centred by half weights at its ends."""

    def __init__(self, height: int, width: int, side: int, padding: Padding, noise: float) -> None:
        _require_fitting(side, height, padding)
        _require_fitting(side, width, padding)
        super().__init__(height, width, box_kernel(side), padding, noise)


class KernelBlur(ForwardOperator):
    """y = x correlated with any odd-sized kernel (kh, kw), borders reflected or periodic.

    Periodic borders: pseudo-inverse (frequencies with |H| below ``SINGULAR_THRESHOLD`` dropped) and
    prox are exact by FFT. Reflected borders: conjugate gradients to ``CG_TOLERANCE``, and the
    pseudo-inverse is the Tikhonov solution with weight ``SINGULAR_THRESHOLD`` squared.
    """

    def __init__(self, height: int, width: int, kernel: Tensor, padding: Padding, noise: float) -> None:
        super().__init__(height, width)
        _require_fitting(kernel.shape[0], height, padding)
        _require_fitting(kernel.shape[1], width, padding)
        self.kernel = kernel
        self.padding = padding
        self.noise_model = GaussianNoise(noise)

    def apply(self, x: Tensor) -> Tensor:
        rows, columns = self.kernel.shape[0] // 2, self.kernel.shape[1] // 2
        padded = F.pad(x, (columns, columns, rows, rows), mode=self.padding)
        return F.conv2d(padded, self._depthwise(x), groups=x.shape[1])

    def adjoint(self, y: Tensor) -> Tensor:
        rows, columns = self.kernel.shape[0] // 2, self.kernel.shape[1] // 2
        padded = F.conv_transpose2d(y, self._depthwise(y), groups=y.shape[1])
        folded = _fold_border(padded, rows, self.padding, axis=2)
        return _fold_border(folded, columns, self.padding, axis=3)

    def pinv(self, y: Tensor) -> Tensor:
        if self.padding == "reflect":
            return regularised_solution(self, self.adjoint(y), torch.zeros_like(y), SINGULAR_THRESHOLD**2)
        response = self._response(y)
        power = response.abs().square()
        inverse = torch.where(power >= SINGULAR_THRESHOLD**2, response.conj() / power, 0.0)
        return torch.fft.irfft2(inverse * torch.fft.rfft2(y), s=y.shape[-2:])

    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        if gamma == 0.0:
            return x
        if self.padding == "reflect":
            return regularised_solution(self, self.adjoint(y) + x / gamma, x, 1.0 / gamma)
        response = self._response(x)
        spectrum = torch.fft.rfft2(x) + gamma * response.conj() * torch.fft.rfft2(y)
        return torch.fft.irfft2(spectrum / (1.0 + gamma * response.abs().square()), s=x.shape[-2:])

    def classical(self, y: Tensor) -> Tensor:
        """Wiener-type deconvolution towards ``y`` itself; see ``wiener_weight``."""
        return self.prox(y, y, wiener_weight(self.noise_model.sigma))

    def _depthwise(self, x: Tensor) -> Tensor:
        kernel = self.kernel.to(x.dtype).to(x.device)
        return kernel.expand(x.shape[1], 1, *kernel.shape)

    def _response(self, x: Tensor) -> Tensor:
        """Frequency response of A on the grid of ``x``; conjugated, for A correlates."""
        kernel = self.kernel.to(x.dtype).to(x.device)
        canvas = x.new_zeros(x.shape[-2:])
        canvas[: kernel.shape[0], : kernel.shape[1]] = kernel
        centred = canvas.roll((-(kernel.shape[0] // 2), -(kernel.shape[1] // 2)), (0, 1))
        return torch.fft.rfft2(centred).conj()


def wiener_weight(noise: float) -> float:
    """Prox weight of the classical deblurring: ratio of detail variance to noise variance.

    prox(y, y, w) is the Wiener filter for a detail x - y that is white with standard deviation
    ``DETAIL_STD``: frequencies the blur destroyed keep the blurred value rather than vanish.
    """
    return (DETAIL_STD / max(noise, MINIMAL_NOISE)) ** 2


def convolution_matrix(kernel: Tensor, length: int, padding: Padding) -> Tensor:
    """The 1-D correlation with ``kernel`` as a float64 matrix (length, length)."""
    radius = kernel.shape[0] // 2
    # The tails of a Gaussian may leave the picture, as long as a border need not be mirrored twice.
    _require_fitting(radius + 1, length, padding)
    eye = torch.eye(length, dtype=torch.float64)[:, None]
    padded = F.pad(eye, (radius, radius), mode=padding)
    return F.conv1d(padded, kernel[None, None])[:, 0].T


def _fold_border(x: Tensor, border: int, padding: Padding, axis: int) -> Tensor:
    """Adjoint of padding by ``border`` on both ends: adds each border onto what it copied."""
    if border == 0:
        return x
    n = x.shape[axis] - 2 * border
    head, body, tail = x.split([border, n, border], dim=axis)
    body = body.clone()
    if padding == "reflect":
        body.narrow(axis, 1, border).add_(head.flip(axis))
        body.narrow(axis, n - 1 - border, border).add_(tail.flip(axis))
    else:
        body.narrow(axis, n - border, border).add_(head)
        body.narrow(axis, 0, border).add_(tail)
    return body


def _require_fitting(extent: int, length: int, padding: Padding) -> None:
    if padding not in ("reflect", "circular"):
        raise OperatorError(f"degradation.padding: {padding!r} is unknown; use reflect or circular")
    if extent > length:
        raise OperatorError(
            f"degradation: a blur that reaches over {extent} pixels does not fit a picture side of {length} "
            "pixels; make it smaller"
        )
