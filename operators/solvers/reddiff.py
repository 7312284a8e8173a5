"""RED-diff (Mardani et al. 2024, "A Variational Perspective on Solving Inverse Problems with Diffusion
Models", arXiv 2305.04391) with its variable in latent space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.solvers.base import LatentPrior, State
from operators.solvers.data_steps import adam, first_picture, gradient_at_estimate
from operators.solvers.levels import level
from operators.solvers.likelihoods import mean_square
from operators.solvers.step_rules import recombine

BETAS = (0.9, 0.99)

#: How the noise-to-signal ratio sqrt((1 - ab) / ab) weighs the prior's gradient (section 4.2; "linear" is the
#: paper's choice, the others its ablation).
WEIGHTINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda ratio: ratio,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "log": torch.log1p,
    "const": torch.ones_like,
}


@dataclass(frozen=True)
class RedDiffState(State):
    """``mu`` the variable, ``mean`` and ``power`` Adam's moments, ``noise`` what z was made with."""

    mu: Tensor | None = None
    mean: Tensor | None = None
    power: Tensor | None = None
    noise: Tensor | None = None


@dataclass(frozen=True)
class RedDiff:
    """Adam on mu of 1/2 mean (y - A D(mu))^2 + prior_weight w(t) mean(sg[eps(z_t) - n] mu).

    z_t = signal mu + noise n is what the network sees; w = sqrt((1 - ab) / ab) (eq. 8), or another of
    `WEIGHTINGS`. ``rate`` 0.1 and ``prior_weight`` 0.25 are the paper's for pixels. With ``classical_start``
    it begins at the classical restoration instead of A^+ y. A point estimate: its variance collapses. The
    network is not differentiated, the decoder is.
    """

    operator: ForwardOperator
    timesteps: tuple[int, ...]
    rate: float = 0.1
    prior_weight: float = 0.25
    data_weight: float = 1.0
    weighting: str = "linear"
    rows: int = 0
    classical_start: bool = False

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> RedDiffState:
        y = self.operator.restrict(y)
        mu = prior.encode(first_picture(self.operator, y, self.classical_start))
        z = recombine(mu, noise, level(prior, self.timesteps[0]))
        nothing = mu.new_zeros(mu.shape)
        return RedDiffState(z=z, y=y, z0=mu, mu=mu, mean=nothing, power=nothing, noise=noise)

    def step(self, i: int, state: State, prior: LatentPrior) -> RedDiffState:
        assert isinstance(state, RedDiffState)
        mu, mean, power = state.mu, state.mean, state.power
        gradient = self._gradient(self.timesteps[i], state, prior)
        mu, mean, power = adam(mu, gradient, mean, power, i + 1, self.rate, BETAS)
        moved = replace(state, z0=mu, mu=mu, mean=mean, power=power)
        if i + 1 == len(self.timesteps):
            return replace(moved, z=mu)
        noise = state.normal(i + 1, "renoise")
        return replace(moved, noise=noise, z=recombine(mu, noise, level(prior, self.timesteps[i + 1])))

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        return prior.decode(state.z)

    def _gradient(self, t: int, state: RedDiffState, prior: LatentPrior) -> Tensor:
        eps = prior.predict(state.z, t).eps.detach()
        ratio = level(prior, t).variance_ratio.sqrt()
        weight = self.prior_weight * WEIGHTINGS[self.weighting](ratio) / state.mu[0].numel()
        pulled = gradient_at_estimate(state.mu, self._misfit(state.y, prior), self.rows)
        return weight * (eps - state.noise) + self.data_weight * pulled

    def _misfit(self, y: Tensor, prior: LatentPrior):
        return lambda mu, part: 0.5 * mean_square(self.operator.apply(prior.decode(mu)), y[part])
