"""Deterministic DDIM: the step, and the timesteps it visits."""

from __future__ import annotations

from torch import Tensor

from operators.errors import OperatorError
from operators.solvers.base import LatentPrior, Prediction


def ddim_step(prediction: Prediction, ab_next: Tensor | float) -> Tensor:
    """sqrt(ab') z0 + sqrt(1 - ab') eps (Song et al. 2021, DDIM, eq. 12 with eta 0). [B, C, h, w]."""
    return ab_next**0.5 * prediction.z0 + (1.0 - ab_next) ** 0.5 * prediction.eps


def leading_timesteps(steps: int, num_train: int = 1000, strength: float = 1.0) -> tuple[int, ...]:
    """``steps`` timesteps in descending order, diffusers "leading" spacing with ``steps_offset`` 1.

    ``strength`` in (0, 1] keeps the last int(steps * strength) of them, as image-to-image
    pipelines do (Meng et al. 2022, SDEdit); at least one stays.

    Raises OperatorError when there are more steps than usable table entries.
    """
    if not 1 <= steps < num_train:
        raise OperatorError(f"solver.steps: {steps} is outside 1..{num_train - 1}; use fewer steps")
    if not 0.0 < strength <= 1.0:
        raise OperatorError(f"strength: {strength} is outside (0, 1]; 1 starts from pure noise")
    stride = num_train // steps
    kept = max(1, int(steps * strength))
    return tuple(1 + stride * i for i in reversed(range(kept)))


def next_alpha(prior: LatentPrior, timesteps: tuple[int, ...], i: int) -> Tensor:
    """alpha-bar of the level that follows step ``i``; after the last one ``final_alpha_cumprod``."""
    if i + 1 < len(timesteps):
        return prior.alphas_cumprod[timesteps[i + 1]]
    return prior.final_alpha_cumprod
