"""What a measurement says of a picture: one number per row, to be differentiated.

Both arguments are measurements on [-1, 1], [B, ...]: what the estimate would measure, and what was measured.
The likelihoods of jobs are norms, not squares, as in the code of Chung et al. 2023: a step then has a length
that does not depend on how large the misfit is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from operators.solvers.base import per_sample_norm

Likelihood = Callable[[Tensor, Tensor], Tensor]

#: Photon counts of white, and the fewest that a count is trusted with.
FULL_SCALE = 255.0
FEWEST = 1.0


def gaussian_misfit(measured: Tensor, y: Tensor) -> Tensor:
    """||y - A x||, [B]."""
    return per_sample_norm(y - measured)


def half_square_misfit(measured: Tensor, y: Tensor) -> Tensor:
    """||y - A x||^2 / 2, [B]: its gradient is A^T (A x - y), and a step of rate r moves what A sees by the
    share r of the misfit."""
    return 0.5 * (y - measured).flatten(1).square().sum(1)


def poisson_misfit(measured: Tensor, y: Tensor) -> Tensor:
    """sqrt(sum (y - A x)^2 / (2 y)) over counts on [0, 255], [B].

    The weighted least squares of Chung et al. 2023 (DPS, eq. 19); the root is our reading, so that the step
    size means what it does for Gaussian noise. Counts below one weigh as one.
    """
    counts = (y + 1.0) / 2.0 * FULL_SCALE
    expected = (measured + 1.0) / 2.0 * FULL_SCALE
    return per_sample_norm((counts - expected) * (2.0 * counts.clamp_min(FEWEST)).rsqrt())


def released_poisson_misfit(measured: Tensor, y: Tensor) -> Tensor:
    """||y - A x|| mean(1 / |y|), [B]: what the code of DPS does. |y| is on [-1, 1], so mid grey is divided
    by nearly nothing; values below one count are taken as one."""
    weight = 1.0 / y.abs().clamp_min(2.0 * FEWEST / FULL_SCALE)
    return per_sample_norm(y - measured) * weight.flatten(1).mean(1)


LIKELIHOODS: dict[str, Likelihood] = {
    "gaussian": gaussian_misfit,
    "poisson": poisson_misfit,
    "poisson_released": released_poisson_misfit,
}


def mean_square(measured: Tensor, y: Tensor) -> Tensor:
    """mean (y - A x)^2, [B]."""
    return torch.mean((y - measured).flatten(1).square(), 1)
