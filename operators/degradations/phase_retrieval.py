"""Phase retrieval: the classical nonlinear test problem; no degradation of videos."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.degradations.base import NonlinearOperator
from operators.errors import OperatorError


class PhaseRetrieval(NonlinearOperator):
    """y = |F P x01|: magnitudes of the orthonormal centred spectrum of the zero-padded picture.

    x01 = (x + 1) / 2; padding by int(oversample / 8 side) per side (Chung et al. 2023: 64 of 256 at
    oversample 2). y does not change when x is turned by 180 degrees.
    """

    def __init__(self, height: int, width: int, oversample: float = 2.0) -> None:
        super().__init__(height, width)
        if not 0.0 <= oversample <= 8.0:
            raise OperatorError(f"degradation.oversample: {oversample} is outside [0, 8]")
        self._pad = tuple(int(oversample / 8.0 * side) for side in (height, width))

    @property
    def measured_shape(self) -> tuple[int, int, int]:
        rows, columns = self._pad
        return (3, self.height + 2 * rows, self.width + 2 * columns)

    def apply(self, x: Tensor) -> Tensor:
        rows, columns = self._pad
        padded = F.pad((x + 1.0) / 2.0, (columns, columns, rows, rows))
        shifted = torch.fft.ifftshift(padded, dim=(-2, -1))
        return torch.fft.fftshift(torch.fft.fft2(shifted, norm="ortho"), dim=(-2, -1)).abs()

    def classical(self, y: Tensor) -> Tensor:
        """Mid-grey: magnitudes alone say nothing about where anything is."""
        return y.new_zeros(y.shape[0], 3, self.height, self.width)
