"""The data step of solvers that leave latent space for it: decode, fit the measurement, encode."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.solvers.base import LatentPrior
from operators.solvers.data_steps import normal_equations
from operators.solvers.levels import Level


@dataclass(frozen=True)
class NormalFit:
    """(A^T A + ``weight`` I) u = A^T y + ``weight`` D(z0) by ``iterations`` of conjugate gradients begun at
    D(z0) and stopped at a residual of ``tolerance``. ``joint``: one system for the frames of a clip."""

    operator: ForwardOperator
    weight: float = 1e-4
    iterations: int = 5
    tolerance: float = 1e-4
    joint: bool = False

    def picture(self, z0: Tensor, y: Tensor, prior: LatentPrior) -> Tensor:
        """The fitted picture [B, 3, H, W]."""
        return normal_equations(
            self.operator, prior.decode(z0), y, self.weight, self.iterations, self.tolerance, joint=self.joint
        )

    def latent(self, z0: Tensor, y: Tensor, prior: LatentPrior) -> Tensor:
        """E of the fitted picture."""
        return prior.encode(self.picture(z0, y, prior))


def blended(z0: Tensor, fitted: Tensor, there: Level) -> Tensor:
    """ab' fitted + (1 - ab') z0: the estimate is trusted more the noisier the next level is."""
    return there.ab * fitted + (1.0 - there.ab) * z0
