"""DiffPIR (Zhu et al. 2023, "Denoising Diffusion Models for Plug-and-Play Image Restoration", arXiv
2305.08995), its prox taken in pixels and re-encoded."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.solvers.base import LatentPrior, State
from operators.solvers.levels import Level, level, next_level
from operators.solvers.step_rules import renoise


@dataclass(frozen=True)
class DiffPir:
    """x = argmin ||A x - y||^2 + rho_t ||x - D(z0)||^2 with rho_t = ``lam`` sigma_y^2 / sigma_t^2, then
    z' = signal' E(x) + noise' (sqrt(1 - zeta) e + sqrt(zeta) n), e the noise that E(x) leaves in z.

    ``sigma_y`` above zero, on [-1, 1]; sigma_t is the pixel noise of the level, its latent noise over the
    prior's gain. The last step renoises with nothing and returns the fitted picture itself.
    """

    operator: ForwardOperator
    timesteps: tuple[int, ...]
    sigma_y: float
    lam: float = 1.0
    zeta: float = 0.3

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        return State(z=noise, y=self.operator.restrict(y))

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        here, there = level(prior, self.timesteps[i]), next_level(prior, self.timesteps, i)
        estimate = prior.decode(prior.predict(state.z, self.timesteps[i]).z0)
        x = self.operator.prox(estimate, state.y, self.prox_weight(here, prior))
        z0 = prior.encode(x)
        if i + 1 == len(self.timesteps):
            return replace(state, z=z0, x=x, z0=z0)
        eps = (state.z - here.signal * z0) / here.noise
        moved = renoise(z0, eps, state.normal(i, "renoise"), there, self.zeta**0.5)
        return replace(state, z=moved, x=x, z0=z0)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        assert state.x is not None
        return state.x

    def prox_weight(self, here: Level, prior: LatentPrior) -> float:
        """1 / rho_t (eq. 13)."""
        return float(here.variance_ratio) / (prior.noise_gain**2 * self.lam * self.sigma_y**2)
