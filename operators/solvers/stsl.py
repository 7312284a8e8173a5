"""STSL (Rout et al. 2024, "Beyond First-Order Tweedie: Solving Inverse Problems using Latent Diffusion",
arXiv 2312.00852): first-order guidance plus the gradient of a one-probe estimate of the score's trace.

No code was published. What the paper's text leaves open is a parameter here and marked "our reading".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.inversion.ddim import ddim_invert
from operators.solvers.base import LatentPrior, Prediction, State
from operators.solvers.data_steps import data_loss, first_picture, gradient_at_estimate
from operators.solvers.levels import level, next_level
from operators.solvers.likelihoods import Likelihood, gaussian_misfit
from operators.solvers.parametrisation import score
from operators.solvers.step_rules import recombine


@dataclass(frozen=True)
class Stsl:
    """At every level ``averages`` updates z <- z - grad[weight L(y, A D(z0)) + eta tr], then one DDIM step.

    tr = eps^T (s(z + h eps) - s(z)) / (h d), eps ~ N(0, I), d the latent's size: Hutchinson's estimate of the
    trace of the score's Jacobian (theorem 4.4). ``probe_size`` h is 1 in the paper; smaller values are less
    biased on priors with several modes. ``eta`` 0.02 and 5 ``averages`` are the paper's. Our reading: a plain
    norm as likelihood with ``weight`` near 1 (a unit step of the squared norm over sigma_y^2 diverges), no
    gluing term, s(z) differentiated (``differentiate_base``), the noise of the DDIM step predicted anew.

    ``forward``: "inversion" enters by DDIM inversion of E(A^+ y), "noised" by adding noise to it, "random" by
    noise alone; ``classical_start`` puts the classical restoration for A^+ y. True cost per step:
    2 averages + 1 evaluations and 2 averages backward passes.
    """

    operator: ForwardOperator
    timesteps: tuple[int, ...]
    weight: float = 1.0
    eta: float = 0.02
    averages: int = 5
    probe_size: float = 1.0
    likelihood: Likelihood = gaussian_misfit
    forward: Literal["inversion", "noised", "random"] = "inversion"
    differentiate_base: bool = True
    rows: int = 0
    classical_start: bool = False

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        y = self.operator.restrict(y)
        if self.forward == "random":
            return State(z=noise, y=y)
        z0 = prior.encode(first_picture(self.operator, y, self.classical_start).clamp(-1.0, 1.0))
        if self.forward == "inversion":
            return State(z=ddim_invert(z0, self.timesteps, prior)[0], y=y)
        return State(z=recombine(z0, noise, level(prior, self.timesteps[0])), y=y)

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        t = self.timesteps[i]
        z = state.z
        for k in range(self.averages):
            probe = state.normal(i, f"probe {k}") if self.eta > 0.0 else None
            z = z - self.surrogate_gradient(z, probe, t, state.y, prior)
        prediction = prior.predict(z, t)
        there = next_level(prior, self.timesteps, i)
        moved = recombine(prediction.z0, prediction.eps, there).detach()
        return replace(state, z=moved, z0=prediction.z0.detach())

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        return prior.decode(state.z)

    def surrogate_gradient(
        self, z: Tensor, probe: Tensor | None, t: int, y: Tensor, prior: LatentPrior
    ) -> Tensor:
        """grad_z of the surrogate loss, one probe [B, C, h, w] (None: first order only)."""
        loss = data_loss(self.operator, y, prior, self.likelihood)
        with torch.enable_grad():
            z = z.detach().requires_grad_(True)
            base = prior.predict(z, t)
            pull = self.weight * gradient_at_estimate(base.z0, loss, self.rows)
            if probe is None:
                return torch.autograd.grad(base.z0, z, pull)[0]
            traces = self._traces(z, base, probe, t, prior)
            outputs, pulls = (base.z0, traces), (pull, torch.full_like(traces, self.eta))
            return torch.autograd.grad(outputs, z, pulls)[0]

    def _traces(self, z: Tensor, base: Prediction, probe: Tensor, t: int, prior: LatentPrior) -> Tensor:
        """tr per row, [B]."""
        at = level(prior, t)
        here = score(base, at)
        if not self.differentiate_base:
            here = here.detach()
        there = score(prior.predict(z + self.probe_size * probe, t), at)
        return (probe * (there - here)).flatten(1).sum(1) / (self.probe_size * z[0].numel())
