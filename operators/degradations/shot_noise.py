"""Photon noise only: A = I, noise that grows with brightness."""

from __future__ import annotations

from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.degradations.noise_models import PoissonNoise


class ShotNoise(ForwardOperator):
    """y01 = Poisson(peak x01) / peak.

    The data term of ``prox`` is gamma/2 sum_i (sigma^2 / sigma_i^2) (u_i - y_i)^2: weighted least squares
    with the variances that the measurement itself suggests (Chung et al. 2023, DPS), relative to
    ``noise_model.sigma``, the level at mid-grey that solvers derive gamma from.
    """

    quadratic = False

    def __init__(self, height: int, width: int, peak: float) -> None:
        super().__init__(height, width)
        self.noise_model = PoissonNoise(peak)

    def apply(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return y

    def pinv(self, y: Tensor) -> Tensor:
        return y

    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        weight = gamma * self.noise_model.sigma**2 / self.noise_model.variance(y)
        return (x + weight * y) / (1.0 + weight)

    def classical(self, y: Tensor) -> Tensor:
        return y
