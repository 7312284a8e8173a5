"""FlowDPS (Kim, Kim and Ye 2025, "FlowDPS: Flow-Driven Posterior Sampling for Inverse Problems", arXiv
2503.08136): the flow step split into its clean and its noise part."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.solvers.base import LatentPrior, State, per_sample_norm
from operators.solvers.data_steps import gradient_at_estimate
from operators.solvers.levels import level, next_level
from operators.solvers.step_rules import recombine, renoise


@dataclass(frozen=True)
class FlowDps:
    """``inner`` gradient steps of size ``rate`` on ||A^+ (y - A D(z))|| from z0, blended as
    (1 - s) z0 + s z0_y, and noise sqrt(s') n_h + sqrt(1 - s') n (algorithm 1; no data step at last).

    For flow priors. Late steps hardly see the data (weight s), so small noise leaves a residual.
    """

    operator: ForwardOperator
    timesteps: tuple[int, ...]
    rate: float = 15.0
    inner: int = 3
    rows: int = 0

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        return State(z=noise, y=self.operator.restrict(y))

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        prediction = prior.predict(state.z, self.timesteps[i])
        z0, eps = prediction.z0.detach(), prediction.eps.detach()
        here, there = level(prior, self.timesteps[i]), next_level(prior, self.timesteps, i)
        if i + 1 == len(self.timesteps):
            return replace(state, z=recombine(z0, eps, there), z0=z0)
        fitted = z0
        for _ in range(self.inner):
            fitted = fitted - self.rate * gradient_at_estimate(fitted, self._loss(state.y, prior), self.rows)
        s = here.flow_time
        blended = (1.0 - s) * z0 + s * fitted
        share = (1.0 - there.flow_time).sqrt()
        moved = renoise(blended, eps, state.normal(i, "renoise"), there, share)
        return replace(state, z=moved, z0=blended)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        return prior.decode(state.z)

    def _loss(self, y: Tensor, prior: LatentPrior):
        operator = self.operator
        return lambda z, part: per_sample_norm(operator.pinv(y[part] - operator.apply(prior.decode(z))))
