"""DDIM inversion undoes DDIM sampling."""

from __future__ import annotations

import torch

from operators.inversion.ddim import ddim_invert
from operators.inversion.path import along
from operators.solvers.base import Prediction
from operators.solvers.ddim import ddim_step, leading_timesteps, next_alpha
from operators.solvers.levels import diffusion_level


class LinearPrior:
    """A Gaussian N(0, variance) prior: its exact denoiser is linear."""

    def __init__(self, variance: float) -> None:
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
        self.alphas_cumprod = (1 - betas).cumprod(0)
        self.final_alpha_cumprod = self.alphas_cumprod[0]
        self.noise_gain = 1.0
        self.complement = None
        self.variance = variance

    def predict(self, z: torch.Tensor, t: int) -> Prediction:
        ab = self.alphas_cumprod[t]
        z0 = ab.sqrt() * self.variance / (ab * self.variance + 1 - ab) * z
        return Prediction(z0, (z - ab.sqrt() * z0) / (1 - ab).sqrt())


def test_one_inverse_step_is_the_exact_inverse_of_one_step() -> None:
    prior = LinearPrior(0.5)
    z = torch.randn(1, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    prediction = prior.predict(z, 601)
    lower, upper = (diffusion_level(prior.alphas_cumprod[t]) for t in (581, 601))
    down = ddim_step(prediction, lower.ab)
    torch.testing.assert_close(along(down, prediction.eps, lower, upper), z)
    torch.testing.assert_close(along(z, prediction.eps, upper, lower), down)


def test_the_round_trip_error_falls_in_proportion_to_the_step() -> None:
    prior = LinearPrior(0.5)
    z0 = torch.randn(1, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    errors = []
    for steps in (10, 20, 40):
        timesteps = leading_timesteps(steps)
        z = ddim_invert(z0, timesteps, prior)[0]
        for i, t in enumerate(timesteps):
            z = ddim_step(prior.predict(z, t), next_alpha(prior, timesteps, i))
        errors.append(((z - z0).norm() / z0.norm()).item())
    assert errors[0] > 1.6 * errors[1] > 1.6 * 1.6 * errors[2]
    assert errors[2] < 0.1


def test_entries_of_the_trajectory_lie_on_the_samplers_own_levels() -> None:
    prior = LinearPrior(1.0)
    z0 = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    timesteps = leading_timesteps(100, strength=0.6)
    trajectory = ddim_invert(z0, timesteps, prior)
    assert trajectory.shape == (len(timesteps), 1, 1, 2, 2)
    # For a unit Gaussian prior the probability flow keeps every latent where it is.
    torch.testing.assert_close(trajectory, z0.expand_as(trajectory), atol=2e-2, rtol=0)
