"""What networks predict, turned into the one form that solvers use: (z0, eps).

Everything here is linear in (z, output) and exact; no division by a vanishing signal except for epsilon
networks, whose z0 needs it.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from operators.solvers.base import Prediction
from operators.solvers.levels import Level


def from_epsilon(z: Tensor, output: Tensor, at: Level) -> Prediction:
    """output = eps (Ho et al. 2020)."""
    return Prediction((z - at.noise * output) / at.signal, output)


def from_velocity(z: Tensor, output: Tensor, at: Level) -> Prediction:
    """output = v = sqrt(ab) eps - sqrt(1 - ab) z0 (Salimans and Ho 2022); finite at ab = 0."""
    return Prediction(at.signal * z - at.noise * output, at.signal * output + at.noise * z)


def from_sample(z: Tensor, output: Tensor, at: Level) -> Prediction:
    """output = z0."""
    return Prediction(output, (z - at.signal * output) / at.noise)


def from_flow(z: Tensor, output: Tensor, at: Level) -> Prediction:
    """output = eps - z0 with z = (1 - s) z0 + s eps (Liu et al. 2023, Esser et al. 2024)."""
    s = at.flow_time
    return Prediction(z - s * output, z + (1.0 - s) * output)


def from_residual(x: Tensor, output: Tensor, std: Tensor | float) -> Tensor:
    """x0 of image bridges that predict (x_t - x_0) / std (Liu et al. 2023, I2SB, eq. 12)."""
    return x - std * output


PARAMETRISATIONS: dict[str, Callable[[Tensor, Tensor, Level], Prediction]] = {
    "epsilon": from_epsilon,
    "v_prediction": from_velocity,
    "sample": from_sample,
    "flow_prediction": from_flow,
}


def score(prediction: Prediction, at: Level) -> Tensor:
    """Gradient of log p_t at z: -eps / sqrt(1 - ab) for diffusions, -eps / s for flows."""
    return -prediction.eps / at.noise
