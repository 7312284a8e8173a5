"""PSLD (Rout et al. 2023, "Solving Linear Inverse Problems Provably via Posterior Sampling with
Latent Diffusion Models", arXiv 2307.00619): latent DPS with a gluing term."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.solvers.base import LatentPrior, State, per_sample_norm
from operators.solvers.ddim import ddim_step, next_alpha


@dataclass(frozen=True)
class Psld:
    """Posterior sampling with gradients through network, decoder and encoder.

    ``omega`` weighs the measurement norm and ``gamma`` the gluing norm (paper: 1 and 0.1). A sample
    of the posterior, not its mean: for fidelity in PSNR use ``Dpir``. Memory is that of a training
    step. Must not run inside ``torch.inference_mode``; ``no_grad`` is fine.
    """

    operator: ForwardOperator
    timesteps: tuple[int, ...]
    omega: float = 1.0
    gamma: float = 0.1

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        return State(z=noise, y=self.operator.restrict(y))

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        ab_next = next_alpha(prior, self.timesteps, i)
        z = psld_step(state.z, state.y, self.timesteps[i], ab_next, prior, self)
        return State(z=z, y=state.y)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        return prior.decode(state.z)


def psld_step(z: Tensor, y: Tensor, t: int, ab_next: Tensor, prior: LatentPrior, method: Psld) -> Tensor:
    """One step of algorithm 2: z' = DDIM(z) - grad_z [omega L_meas + gamma L_glue].

    ``z`` [B, C, h, w] at timestep ``t``; ``y`` [B, 3, h', w']; returns z' at alpha-bar ``ab_next``.
    Norms are not squared, as in the authors' code. They are taken per sample and summed, so that
    the gradient of a sample does not depend on its neighbours.
    """
    with torch.enable_grad():
        z = z.detach().requires_grad_(True)
        prediction = prior.predict(z, t)
        measurement, glue = psld_losses(prediction.z0, y, prior, method.operator)
        loss = (method.omega * measurement + method.gamma * glue).sum()
        (gradient,) = torch.autograd.grad(loss, z)
        z_next = ddim_step(prediction, ab_next)
    return (z_next - gradient).detach()


def psld_losses(
    z0: Tensor, y: Tensor, prior: LatentPrior, operator: ForwardOperator
) -> tuple[Tensor, Tensor]:
    """(||y - A x||, ||E(x + A^+ (y - A x)) - z0||) per sample, [B] each, with x = D(z0).

    The paper writes A^T for A^+ under its assumption A A^T = I; without that assumption A^+ is what
    replaces the measured part of x.
    """
    x = prior.decode(z0)
    misfit = y - operator.apply(x)
    glued = prior.encode(x + operator.pinv(misfit))
    return per_sample_norm(misfit), per_sample_norm(glued - z0)
