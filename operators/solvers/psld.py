"""PSLD (Rout et al. 2023, "Solving Linear Inverse Problems Provably via Posterior Sampling with
Latent Diffusion Models", arXiv 2307.00619): latent DPS with a gluing term."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.solvers.base import LatentPrior, State, per_sample_norm
from operators.solvers.data_steps import gradient_through_network
from operators.solvers.levels import next_level
from operators.solvers.step_rules import recombine


@dataclass(frozen=True)
class Psld:
    """Posterior sampling with gradients through network, decoder and encoder.

    ``omega`` weighs the measurement norm and ``gamma`` the gluing norm (paper: 1 and 0.1). A sample
    of the posterior, not its mean: for fidelity in PSNR use ``Dpir``. Memory is that of a training
    step; ``rows`` bounds how many frames hold autoencoder activations at once (0: all). Must not run
    inside ``torch.inference_mode``; ``no_grad`` is fine.
    """

    operator: ForwardOperator
    timesteps: tuple[int, ...]
    omega: float = 1.0
    gamma: float = 0.1
    rows: int = 0

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        return State(z=noise, y=self.operator.restrict(y))

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        """One step of algorithm 2: z' = DDIM(z) - grad_z [omega L_meas + gamma L_glue].

        Norms are not squared, as in the authors' code. They are taken per sample and summed, so that
        the gradient of a sample does not depend on its neighbours.
        """

        def loss(z0: Tensor, part: slice) -> Tensor:
            measurement, glue = psld_losses(z0, state.y[part], prior, self.operator)
            return self.omega * measurement + self.gamma * glue

        prediction, gradient = gradient_through_network(state.z, self.timesteps[i], prior, loss, self.rows)
        there = next_level(prior, self.timesteps, i)
        moved = recombine(prediction.z0, prediction.eps, there)
        return replace(state, z=moved - gradient, z0=prediction.z0)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        return prior.decode(state.z)


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
