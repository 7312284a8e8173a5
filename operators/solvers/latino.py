"""LATINO (Spagnoletti et al. 2025, "LATINO-PRO: LAtent consisTency INverse sOlver with PRompt Optimization",
arXiv 2503.12615): a few-step prior between encoder and decoder as a stochastic autoencoder."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.solvers.base import LatentPrior, State
from operators.solvers.data_steps import first_picture
from operators.solvers.levels import level
from operators.solvers.step_rules import lcm_denoised, recombine

#: The released grids of eight and four steps.
EIGHT_STEPS = (999, 874, 749, 624, 499, 374, 249, 124)
FOUR_STEPS = (999, 749, 499, 249)


@dataclass(frozen=True)
class Latino:
    """x = prox_{delta g}(D(G(z_t))), then z_t' = signal' E(x) + noise' n; splitting Langevin (algorithm 1).

    ``deltas`` one per step; the prox weight is delta (1 - ab) / sigma_y^2 with ``sigma_y`` on [-1, 1]. As
    released, E(x) passes the boundary condition of latent consistency models, and pictures are clipped before
    they are encoded. Starts from noised E(A^+ y). For a consistency prior; a diffusion's z0 is a mean, which
    few steps leave blurred. With noise shared by the frames of a scene it is the still part of LVTINO.
    """

    operator: ForwardOperator
    timesteps: tuple[int, ...]
    deltas: tuple[float, ...]
    sigma_y: float

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        y = self.operator.restrict(y)
        z0 = prior.encode(first_picture(self.operator, y).clamp(-1.0, 1.0))
        return State(z=recombine(z0, noise, level(prior, self.timesteps[0])), y=y)

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        t = self.timesteps[i]
        prediction = prior.predict(state.z, t)
        fitted = self.fitted_latent(i, prediction.z0, state.y, prior)
        denoised = lcm_denoised(state.z, fitted, t)
        if i + 1 == len(self.timesteps):
            return replace(state, z=denoised, z0=denoised)
        fresh = state.normal(i, "renoise")
        there = level(prior, self.timesteps[i + 1])
        return replace(state, z=recombine(denoised, fresh, there), z0=denoised)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        return prior.decode(state.z)

    def fitted_latent(self, i: int, z0: Tensor, y: Tensor, prior: LatentPrior) -> Tensor:
        """E(clip(prox(clip(D(z0)))))."""
        x = prior.decode(z0).clamp(-1.0, 1.0)
        noise_share = 1.0 - float(level(prior, self.timesteps[i]).ab)
        fitted = self.operator.prox(x, y, self.deltas[i] * noise_share / self.sigma_y**2)
        return prior.encode(fitted.clamp(-1.0, 1.0))
