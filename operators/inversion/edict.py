"""EDICT: exact inversion by two coupled latents (Wallace, Gokul and Naik 2023, arXiv 2211.12446).

Each latent is denoised with the noise predicted at the other, then the two are mixed; both operations can be
undone. Undoing the mixing multiplies their difference by 1/p^2 per step, so this is an oracle for float32 and
float64 networks: half precision loses the exactness.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from operators.inversion.path import Rung, along, rungs
from operators.solvers.base import LatentPrior, State

#: p of the paper, section 4.
MIXING = 0.93


@dataclass(frozen=True)
class Coupled(State):
    """``z`` and its ``partner``; at clean latents both are equal."""

    partner: Tensor | None = None


def coupled_step(
    x: Tensor, y: Tensor, i: int, rung: Rung, prior: LatentPrior, mixing: float
) -> tuple[Tensor, Tensor]:
    """Denoise and mix (paper, eq. 14); the order of the two alternates with the step ``i``."""
    if i % 2:
        y, x = coupled_step(y, x, 0, rung, prior, mixing)
        return x, y
    x = along(x, prior.predict(y, rung.t).eps, rung.upper, rung.lower)
    y = along(y, prior.predict(x, rung.t).eps, rung.upper, rung.lower)
    x = mixing * x + (1 - mixing) * y
    return x, mixing * y + (1 - mixing) * x


def coupled_inverse(
    x: Tensor, y: Tensor, i: int, rung: Rung, prior: LatentPrior, mixing: float
) -> tuple[Tensor, Tensor]:
    """What undoes `coupled_step` (paper, eq. 15)."""
    if i % 2:
        y, x = coupled_inverse(y, x, 0, rung, prior, mixing)
        return x, y
    y = (y - (1 - mixing) * x) / mixing
    x = (x - (1 - mixing) * y) / mixing
    y = along(y, prior.predict(x, rung.t).eps, rung.lower, rung.upper)
    return along(x, prior.predict(y, rung.t).eps, rung.lower, rung.upper), y


@dataclass(frozen=True)
class Edict:
    """A StepSolver: inverts with the prior ``inversion``, samples with the solver's."""

    timesteps: tuple[int, ...]
    inversion: LatentPrior
    mixing: float = MIXING

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> Coupled:
        """Both latents from the clean one. Deterministic: ``noise`` is not used."""
        x = partner = prior.encode(y)
        steps = list(enumerate(rungs(prior, self.timesteps)))
        with torch.no_grad():
            for i, rung in reversed(steps):
                x, partner = coupled_inverse(x, partner, i, rung, self.inversion, self.mixing)
        return Coupled(z=x, y=y, partner=partner)

    def step(self, i: int, state: Coupled, prior: LatentPrior) -> Coupled:
        rung = rungs(prior, self.timesteps)[i]
        x, partner = coupled_step(state.z, state.partner, i, rung, prior, self.mixing)
        return replace(state, z=x, partner=partner)

    def finish(self, state: Coupled, prior: LatentPrior) -> Tensor:
        """The first latent, decoded."""
        return prior.decode(state.z)
