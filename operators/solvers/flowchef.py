"""FlowChef (Patel et al. 2025, "FlowChef: Steering of Rectified Flow Models for Controlled Generations",
arXiv 2412.00100): on a straight flow the gradient at z0 may be applied to z itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.solvers.base import LatentPrior, State
from operators.solvers.data_steps import data_loss, gradient_at_estimate
from operators.solvers.levels import next_level
from operators.solvers.likelihoods import Likelihood, half_square_misfit
from operators.solvers.step_rules import recombine


@dataclass(frozen=True)
class FlowChef:
    """``inner`` times z <- z - rate grad_{z0} L(y, A D(z - s v)) with v frozen, then the Euler step.

    Moving z with v frozen moves z0 and the noise alike. For flow priors; the network is not differentiated.
    The authors descend a mean squared error, so ``rate`` times ||A D||^2 must stay below 2; with
    `gaussian_misfit` in place of it, as in the comparison of FlowDPS, every move has the length ``rate``.
    """

    operator: ForwardOperator
    timesteps: tuple[int, ...]
    rate: float = 0.1
    inner: int = 1
    likelihood: Likelihood = half_square_misfit
    rows: int = 0

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        return State(z=noise, y=self.operator.restrict(y))

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        prediction = prior.predict(state.z, self.timesteps[i])
        loss = data_loss(self.operator, state.y, prior, self.likelihood)
        z0, eps = prediction.z0.detach(), prediction.eps.detach()
        for _ in range(self.inner):
            move = self.rate * gradient_at_estimate(z0, loss, self.rows)
            z0, eps = z0 - move, eps - move
        return replace(state, z=recombine(z0, eps, next_level(prior, self.timesteps, i)), z0=z0)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        return prior.decode(state.z)
