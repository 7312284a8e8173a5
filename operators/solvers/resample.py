"""ReSample (Song et al. 2024, "Solving Inverse Problems with Latent Diffusion Models via Hard Data
Consistency", arXiv 2307.08123)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.solvers.base import LatentPrior, State
from operators.solvers.data_steps import data_loss, gradient_through_network, minimise
from operators.solvers.levels import Level, level, next_level
from operators.solvers.likelihoods import gaussian_misfit, mean_square
from operators.solvers.step_rules import ddim, recombine


def stochastic_resample(
    fitted: Tensor, z: Tensor, ab: Tensor | float, sigma: Tensor | float, noise: Tensor
) -> Tensor:
    """A draw of the product of N(sqrt(ab) fitted, 1 - ab) and N(z, sigma) (proposition 1); ``sigma`` is a
    variance. Scalars broadcast."""
    ab, sigma = torch.as_tensor(ab), torch.as_tensor(sigma)
    mean = (sigma * ab.sqrt() * fitted + (1.0 - ab) * z) / (sigma + 1.0 - ab)
    return mean + (1.0 / (1.0 / sigma + 1.0 / (1.0 - ab))).sqrt() * noise


def resample_variance(here: Level, there: Level, gamma: float) -> Tensor:
    """gamma (1 - ab') / (1 - ab) (1 - ab / ab'): the released schedule of sigma, gamma 40."""
    return gamma * (1.0 - there.ab) / (1.0 - here.ab) * (1.0 - here.ab / there.ab)


@dataclass(frozen=True)
class ReSample:
    """DDIM(eta 1) with a DPS term of weight ab / 2; in the last two thirds every ``every``-th step makes z0
    fit the measurement by optimisation (middle third in pixels, last third in latent space) and is resampled
    around the fitted z0.

    ``travel`` further DDIM steps refine z0 before it is fitted (paper: 5). They happen inside the step, at
    lower timesteps than its own, so references that share attention are off by as much: jobs use 0. The
    Tweedie mean is the exact one (the released code uses another power of 1 - ab). Ends with a latent fit.
    """

    operator: ForwardOperator
    timesteps: tuple[int, ...]
    every: int = 10
    travel: int = 5
    gamma: float = 40.0
    scale: float = 1.0
    pixel_iterations: int = 200
    latent_iterations: int = 100
    goal: float = 1e-6
    pixel_rate: float = 1e-2
    latent_rate: float = 5e-3
    rows: int = 0

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        return State(z=noise, y=self.operator.restrict(y))

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        t = self.timesteps[i]
        here, there = level(prior, t), next_level(prior, self.timesteps, i)
        loss = data_loss(self.operator, state.y, prior, gaussian_misfit)
        prediction, gradient = gradient_through_network(state.z, t, prior, loss, self.rows)
        last = i + 1 == len(self.timesteps)
        fresh = None if last else state.normal(i, "renoise")
        moved = ddim(prediction, here, there, fresh, 1.0) - self.scale * here.ab / 2.0 * gradient
        if last or not self._is_hard(i):
            return replace(state, z=moved, z0=prediction.z0)
        z0 = self.travelled(i, moved, prediction.z0, prior)
        fitted = self.fitted(i, z0, state.y, prior)
        sigma = resample_variance(here, there, self.gamma)
        resampled = stochastic_resample(fitted, moved, there.ab, sigma, state.normal(i, "resample"))
        return replace(state, z=resampled, z0=fitted)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        fitted = self._latent_fit(state.z, state.y, prior)
        return prior.decode(fitted)

    def travelled(self, i: int, z: Tensor, z0: Tensor, prior: LatentPrior) -> Tensor:
        """The Tweedie mean after ``travel`` more DDIM steps from ``z`` at the level after step ``i``."""
        for k in range(i + 1, min(i + 1 + self.travel, len(self.timesteps))):
            prediction = prior.predict(z, self.timesteps[k])
            z = recombine(prediction.z0, prediction.eps, next_level(prior, self.timesteps, k))
            z0 = prediction.z0
        return z0

    def fitted(self, i: int, z0: Tensor, y: Tensor, prior: LatentPrior) -> Tensor:
        """z0 that reproduces the measurement to a mean square of ``goal``."""
        if i >= 2 * len(self.timesteps) / 3:
            return self._latent_fit(z0, y, prior)
        x = minimise(
            prior.decode(z0),
            lambda x: mean_square(self.operator.apply(x), y),
            iterations=self.pixel_iterations,
            rate=self.pixel_rate,
            goal=self.goal,
        )
        return prior.encode(x)

    def _is_hard(self, i: int) -> bool:
        return i >= len(self.timesteps) / 3 and i % self.every == 0

    def _latent_fit(self, z0: Tensor, y: Tensor, prior: LatentPrior) -> Tensor:
        return minimise(
            z0,
            lambda z: mean_square(self.operator.apply(prior.decode(z)), y),
            iterations=self.latent_iterations,
            rate=self.latent_rate,
            goal=self.goal,
            patience=200,
        )
