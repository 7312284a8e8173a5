"""TReg (Kim et al. 2023, "Regularization by Texts for Latent Diffusion Inverse Solvers", arXiv 2311.15658)
without adaptive negation, which needs a CLIP image tower."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from operators.solvers.base import LatentPrior, State
from operators.solvers.data_steps import data_loss, gradient_through_network
from operators.solvers.guidance import unconditional
from operators.solvers.levels import next_level
from operators.solvers.likelihoods import gaussian_misfit
from operators.solvers.reencode import NormalFit, blended
from operators.solvers.step_rules import recombine, renoise


@dataclass(frozen=True)
class TReg:
    """Every ``every``-th step below ``until`` fits the measurement, re-encodes and renoises; the others are
    DDIM or, where ``dps`` is on, unconditional DDIM minus sqrt(ab') grad_z ||y - A D(z0)||.

    The prompt comes with the prior (paper: guidance 5; with a CFG++ prior it is the CFG++ variant). After
    ``until`` nothing holds the measurement: the paper stops at 85 % of the steps, which leaves a residual for
    small noise; ``dps`` or `LastFit` closes it.
    """

    fit: NormalFit
    timesteps: tuple[int, ...]
    every: int = 3
    until: int = 170
    dps: bool = False
    rows: int = 0

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        return State(z=noise, y=self.fit.operator.restrict(y))

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        t, there = self.timesteps[i], next_level(prior, self.timesteps, i)
        if i % self.every == 0 and i < self.until:
            prediction = prior.predict(state.z, t)
            z0 = blended(prediction.z0, self.fit.latent(prediction.z0, state.y, prior), there)
            fresh = state.normal(i, "renoise")
            return replace(state, z=renoise(z0, prediction.eps, fresh, there, there.ab.sqrt()), z0=z0)
        if not self.dps:
            prediction = prior.predict(state.z, t)
            return replace(state, z=recombine(prediction.z0, prediction.eps, there), z0=prediction.z0)
        z, z0 = dps_step(i, state, unconditional(prior), self)
        return replace(state, z=z, z0=z0)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        """The last clean estimate, decoded."""
        return prior.decode(state.z0)


def dps_step(i: int, state: State, prior: LatentPrior, method: TReg) -> tuple[Tensor, Tensor]:
    """DDIM minus sqrt(ab') grad_z ||y - A D(z0)||; returns (z', z0)."""
    there = next_level(prior, method.timesteps, i)
    loss = data_loss(method.fit.operator, state.y, prior, gaussian_misfit)
    prediction, gradient = gradient_through_network(state.z, method.timesteps[i], prior, loss, method.rows)
    moved = recombine(prediction.z0, prediction.eps, there) - there.ab.sqrt() * gradient
    return moved, prediction.z0
