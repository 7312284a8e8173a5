"""More strength is nearer to the style and further from the content, at every step of the grid."""

from __future__ import annotations

import itertools

import pytest
import torch

from operators.inversion.ddim import ddim_invert
from operators.solvers.ddim import leading_timesteps
from operators.style.bank import BankRecipe, build_bank
from operators.style.transport import RIDGE, gaussian_distance, latent_statistics, transport
from pipeline.style_strength import colour_weight, schedule_share
from tests.support.gaussian_prior import GaussianPrior

GRID = [n / 10 for n in range(1, 11)]


def latents(seed: int, mean: float, spread: float) -> torch.Tensor:
    z = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return mean + spread * torch.einsum("dc,bchw->bdhw", torch.tensor(MIX, dtype=torch.float64), z)


MIX = [[1.0, 0.3, 0.0], [0.0, 0.8, -0.4], [0.2, 0.0, 0.5]]


def test_the_distance_to_the_style_falls_and_that_to_the_content_grows_as_the_weights_say() -> None:
    content, style = latents(0, 0.5, 0.6), latents(1, -1.0, 1.4)
    own, target = latent_statistics(content), latent_statistics(style)
    whole = gaussian_distance(own, target)
    moved = [transport(content, own, target, colour_weight(strength)) for strength in GRID]
    to_style = [gaussian_distance(latent_statistics(z), target) for z in moved]
    to_content = [float((z - content).square().mean()) for z in moved]
    for left, right in itertools.pairwise(zip(GRID, to_style, to_content, strict=True)):
        assert right[1] < left[1]
        assert right[2] > left[2]
    for strength, distance in zip(GRID, to_style, strict=True):
        # Displacement interpolation: Wasserstein distances shrink by what is left of the way.
        assert distance == pytest.approx((1 - colour_weight(strength)) ** 2 * whole, abs=60 * RIDGE)


def test_more_strength_never_walks_less_of_the_schedule_and_all_of_it_is_the_depth() -> None:
    walked = [len(leading_timesteps(20, strength=schedule_share(s, 0.6))) for s in GRID]
    assert walked == [2, 4, 7, 9, 12, 12, 12, 12, 12, 12]
    assert colour_weight(0.0) == 0.0
    assert colour_weight(1.0) == 1.0


def test_the_last_steps_of_a_reference_are_what_inverting_over_them_leaves() -> None:
    covariance = torch.diag(torch.linspace(0.1, 2.0, 48, dtype=torch.float64))
    mean = torch.full((48,), 0.1, dtype=torch.float64)
    prior = GaussianPrior(4, 4, mean, covariance, torch.eye(48, dtype=torch.float64))
    generator = torch.Generator().manual_seed(2)
    picture = torch.rand(1, 3, 4, 4, generator=generator, dtype=torch.float64) * 2 - 1
    whole = build_bank([picture], [1.0], BankRecipe(leading_timesteps(10)), prior, "")
    few = leading_timesteps(10, strength=0.3)
    expected = ddim_invert(prior.encode(picture), few, prior)[:, 0]
    assert torch.equal(whole.last(len(few)).references[0].trajectory, expected)
