"""Denoising without sampling: the measurement itself is a point of the diffusion trajectory."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from operators.solvers.base import LatentPrior, State
from operators.solvers.levels import level, next_level
from operators.solvers.step_rules import recombine


@dataclass(frozen=True)
class MatchedDenoise:
    """For y = x + n: enter at the timestep whose noise equals the measurement's, then DDIM down.

    sqrt(ab) E(y) is distributed as the prior's z_t given x when n is white and E is orthonormal on
    the latent's subspace, so no noise is added. One step returns the Tweedie mean E[x | y], which
    is what PSNR asks for; further steps follow the probability flow and keep more texture. What the
    latent leaves out is filtered apart where the prior knows it, at noise ``sigma`` on [-1, 1].
    """

    timesteps: tuple[int, ...]
    sigma: float = 0.0

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        return State(z=level(prior, self.timesteps[0]).signal * prior.encode(y), y=y)

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        prediction = prior.predict(state.z, self.timesteps[i])
        if i + 1 == len(self.timesteps):
            return State(z=prediction.z0, y=state.y)
        there = next_level(prior, self.timesteps, i)
        return State(z=recombine(prediction.z0, prediction.eps, there), y=state.y)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        estimate = prior.decode(state.z)
        if prior.complement is None or self.sigma <= 0.0:
            return estimate
        return prior.complement.denoise(state.y, estimate, self.sigma)
