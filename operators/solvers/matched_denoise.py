"""Denoising without sampling: the measurement itself is a point of the diffusion trajectory."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from operators.solvers.base import LatentPrior, State
from operators.solvers.ddim import ddim_step, next_alpha


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
        return State(z=prior.alphas_cumprod[self.timesteps[0]].sqrt() * prior.encode(y), y=y)

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        prediction = prior.predict(state.z, self.timesteps[i])
        if i + 1 == len(self.timesteps):
            return State(z=prediction.z0, y=state.y)
        return State(z=ddim_step(prediction, next_alpha(prior, self.timesteps, i)), y=state.y)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        estimate = prior.decode(state.z)
        if prior.complement is None or self.sigma <= 0.0:
            return estimate
        return prior.complement.denoise(state.y, estimate, self.sigma)
