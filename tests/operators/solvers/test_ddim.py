"""Timesteps as diffusers spaces them, and the deterministic DDIM step."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler

from operators.errors import OperatorError
from operators.solvers.base import Prediction
from operators.solvers.ddim import ddim_step, leading_timesteps


@pytest.mark.parametrize("steps", [1, 4, 20, 30, 999])
def test_timesteps_equal_the_leading_spacing_of_diffusers(steps: int) -> None:
    scheduler = DDIMScheduler(timestep_spacing="leading", steps_offset=1)
    scheduler.set_timesteps(steps)
    assert list(leading_timesteps(steps)) == scheduler.timesteps.tolist()


def test_strength_keeps_the_last_steps_of_the_full_schedule() -> None:
    assert leading_timesteps(20, strength=0.5) == leading_timesteps(20)[10:]
    assert leading_timesteps(20, strength=0.01) == leading_timesteps(20)[-1:]


@pytest.mark.parametrize(("steps", "strength"), [(0, 1.0), (1000, 1.0), (20, 0.0), (20, 1.5)])
def test_impossible_schedules_are_refused(steps: int, strength: float) -> None:
    with pytest.raises(OperatorError):
        leading_timesteps(steps, strength=strength)


def test_the_step_agrees_with_the_scheduler_of_diffusers() -> None:
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        timestep_spacing="leading",
        steps_offset=1,
    )
    scheduler.set_timesteps(10)
    generator = torch.Generator().manual_seed(0)
    z, eps = (torch.randn(2, 4, 5, 5, generator=generator) for _ in range(2))
    ab = scheduler.alphas_cumprod
    z0 = (z - (1 - ab[501]).sqrt() * eps) / ab[501].sqrt()
    expected = scheduler.step(eps, 501, z).prev_sample
    torch.testing.assert_close(ddim_step(Prediction(z0, eps), ab[401]), expected, rtol=1e-5, atol=1e-6)
