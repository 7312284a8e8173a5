"""DPIR (Zhang et al. 2021, "Plug-and-Play Image Restoration with Deep Denoiser Prior",
arXiv 2008.13751) with a latent diffusion model as the denoiser."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.solvers.base import LatentPrior, State


@dataclass(frozen=True)
class Dpir:
    """Half-quadratic splitting: the data prox (eq. 6a) and the denoiser (eq. 6b) take turns.

    At step k the estimate u is moved to x_k = argmin ||A x - y||^2 + lam sigma_y^2 / sigma_k^2
    ||x - u||^2, that is the prox of weight ``weights[k]`` = sigma_k^2 / (lam sigma_y^2), and
    sqrt(ab) E(x_k) is shown to the network at the timestep of noise level sigma_k as if x_k carried
    that noise; none is added. Deterministic: ``noise`` of ``start`` is ignored.
    """

    operator: ForwardOperator
    timesteps: tuple[int, ...]
    weights: tuple[float, ...]
    final_weight: float

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        y = self.operator.restrict(y)
        return self._present(0, self.operator.classical(y), y, prior)

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        z0 = prior.predict(state.z, self.timesteps[i]).z0
        estimate = prior.decode(z0)
        if i + 1 == len(self.timesteps):
            return State(z=z0, y=state.y, x=estimate)
        return self._present(i + 1, estimate, state.y, prior)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        """The last estimate after one more data prox, of weight ``final_weight``."""
        assert state.x is not None
        return self.operator.prox(state.x, state.y, self.final_weight)

    def _present(self, i: int, estimate: Tensor, y: Tensor, prior: LatentPrior) -> State:
        """The state whose z the network sees at step ``i``."""
        x = self.operator.prox(estimate, y, self.weights[i])
        return State(z=prior.alphas_cumprod[self.timesteps[i]].sqrt() * prior.encode(x), y=y, x=x)
