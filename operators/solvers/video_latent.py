"""Our sampler for clips, composed of published parts: inverted start and clip-wide data step (SVI, VISION-XL:
Kwon and Ye 2025, arXiv 2409.02574 and 2412.00156), their re-encoding blend (TReg), noise shared by policy,
agreement along the flow (MGLD-VSR)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.inversion.ddim import ddim_invert
from operators.solvers.base import LatentPrior, State
from operators.solvers.data_steps import first_picture, normal_equations
from operators.solvers.flow_loss import ClipFlows, flow_gradient
from operators.solvers.levels import Level, level, next_level
from operators.solvers.reencode import blended
from operators.solvers.step_rules import renoise


@dataclass(frozen=True)
class VideoLatent:
    """Per step: z0; with ``flows``, z0 -= flow_weight (1 - ab) grad of the flow loss; every ``every``-th
    step the prox of weight sigma_t^2 / (lam sigma_y^2), re-encoded and blended by ab'; renoise with a share
    ``eta``.

    Starts by DDIM inversion of E(A^+ y) (of the classical restoration with ``classical_start``): every
    frame's own, or of each ``key_every``-th frame for those around it. Ends with a prox of ``final_weight``
    in pixels. Which noise frames share is the source's affair. Without ``flows``, with ``key_every`` 1 and an
    operator that does not couple frames, a frame is a function of itself; else the batch must be the whole
    clip, in order. With a CFG++ prior it renoises as VISION-XL does.
    """

    operator: ForwardOperator
    timesteps: tuple[int, ...]
    sigma_y: float
    final_weight: float
    lam: float = 1.0
    eta: float = 0.2
    every: int = 1
    key_every: int = 1
    flows: ClipFlows | None = None
    flow_weight: float = 0.1
    iterations: int = 10
    classical_start: bool = False

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        y = self.operator.restrict(y)
        first = first_picture(self.operator, y, self.classical_start).clamp(-1.0, 1.0)
        keys = torch.arange(0, len(first), self.key_every)
        inverted = ddim_invert(prior.encode(first[keys]), self.timesteps, prior)[0]
        nearest = ((torch.arange(len(first)) + self.key_every // 2) // self.key_every).clamp(
            max=len(keys) - 1
        )
        return State(z=inverted[nearest], y=y)

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        here, there = level(prior, self.timesteps[i]), next_level(prior, self.timesteps, i)
        prediction = prior.predict(state.z, self.timesteps[i])
        z0 = prediction.z0
        if self.flows is not None:
            z0 = z0 - self.flow_weight * (1.0 - here.ab) * flow_gradient(z0, self.flows)
        if i % self.every == 0:
            fitted = prior.encode(self.fitted(prior.decode(z0), state.y, self.data_weight(here, prior)))
            z0 = blended(z0, fitted, there)
        if i + 1 == len(self.timesteps):
            return replace(state, z=z0, z0=z0)
        fresh = state.normal(i, "renoise")
        return replace(state, z=renoise(z0, prediction.eps, fresh, there, self.eta), z0=z0)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        return self.fitted(prior.decode(state.z), state.y, self.final_weight)

    def fitted(self, x: Tensor, y: Tensor, weight: float) -> Tensor:
        """The prox of the clip's data term: the operator's own, or conjugate gradients on all frames."""
        if self.operator.has_prox:
            return self.operator.prox(x, y, weight)
        joint = self.operator.couples_frames
        return normal_equations(self.operator, x, y, 1.0 / weight, self.iterations, 1e-5, joint=joint)

    def data_weight(self, here: Level, prior: LatentPrior) -> float:
        """sigma_t^2 / (lam sigma_y^2), sigma_t the pixel noise of the level."""
        return float(here.variance_ratio) / (prior.noise_gain**2 * self.lam * self.sigma_y**2)
