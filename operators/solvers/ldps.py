"""DPS (Chung et al. 2023, "Diffusion Posterior Sampling for General Noisy Inverse Problems", arXiv
2209.14687) through the decoder of a latent prior (LDPS); with an identity autoencoder it is DPS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.solvers.base import LatentPrior, Prediction, State
from operators.solvers.data_steps import data_loss, detached, gradient_at_estimate, gradient_through_network
from operators.solvers.levels import level, next_level
from operators.solvers.likelihoods import Likelihood, gaussian_misfit
from operators.solvers.step_rules import ancestral, ddim


@dataclass(frozen=True)
class Ldps:
    """z' = step(z) - scale grad_z L(y, A D(z0)), A any differentiable map.

    ``scale`` is the code's: twice the zeta of the paper. ``rule``: DDIM(``eta``), or the paper's ancestral
    step. ``jacobian`` off applies grad_{z0} in place of grad_z (no backward pass through the network; for
    straight flows that is FlowChef's argument, on diffusions it has less theory). ``rows`` bounds how many
    frames hold decoder activations at once (0: all).
    """

    operator: ForwardOperator
    timesteps: tuple[int, ...]
    scale: float = 1.0
    eta: float = 0.0
    rule: Literal["ddim", "ancestral"] = "ddim"
    likelihood: Likelihood = gaussian_misfit
    jacobian: bool = True
    rows: int = 0

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        return State(z=noise, y=self.operator.restrict(y))

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        """Algorithm 1: the unconditional step, then the gradient of the misfit of z0."""
        prediction, gradient = self._gradient(self.timesteps[i], state, prior)
        here, there = level(prior, self.timesteps[i]), next_level(prior, self.timesteps, i)
        fresh = self._fresh(i, state)
        if self.rule == "ancestral":
            moved = ancestral(state.z, prediction, here, there, fresh)
        else:
            moved = ddim(prediction, here, there, fresh, self.eta)
        return replace(state, z=moved - self.scale * gradient, z0=prediction.z0)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        return prior.decode(state.z)

    def _gradient(self, t: int, state: State, prior: LatentPrior) -> tuple[Prediction, Tensor]:
        loss = data_loss(self.operator, state.y, prior, self.likelihood)
        if self.jacobian:
            return gradient_through_network(state.z, t, prior, loss, self.rows)
        prediction = detached(prior.predict(state.z, t))
        return prediction, gradient_at_estimate(prediction.z0, loss, self.rows)

    def _fresh(self, i: int, state: State) -> Tensor | None:
        """Noise of step ``i``; none after the last one, nor where the rule is deterministic."""
        stochastic = self.rule == "ancestral" or self.eta > 0.0
        return state.normal(i, "renoise") if stochastic and i + 1 < len(self.timesteps) else None
