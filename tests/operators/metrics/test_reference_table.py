"""The reference table: ratios of one where nothing is read, and rows that know nothing of each other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from operators.attention.install import install
from operators.attention.session import SharedAttention
from operators.metrics.reference_table import TIMESTEPS, ReferenceRow, reference_table
from operators.training.networks import scheduler
from tests.support.tiny_models import tiny_sd_unet

ALPHAS = scheduler().alphas_cumprod
TOKENS = torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(5))


def latents(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, 4, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(3)
    return tiny_sd_unet().eval().requires_grad_(False)


def table(unet: UNet2DConditionModel, pairs: int, timesteps: Sequence[int]) -> list[ReferenceRow]:
    def estimate(z: Tensor, t: int) -> Tensor:
        v = unet(z, t, encoder_hidden_states=TOKENS).sample
        return ALPHAS[t].sqrt() * z - (1 - ALPHAS[t]).sqrt() * v

    frames, references = latents(4, 1)[:pairs], latents(4, 2)[:pairs]
    with install(unet) as session:
        return reference_table(estimate, session, ALPHAS, frames, references, timesteps=timesteps)


def test_an_estimate_that_reads_nothing_has_ratios_of_one_and_the_loss_of_its_noise() -> None:
    frames, references = latents(6, 1), latents(6, 2)
    rows = reference_table(lambda z, t: z / ALPHAS[t].sqrt(), SharedAttention(), ALPHAS, frames, references)
    assert tuple(row.timestep for row in rows) == TIMESTEPS
    for row in rows:
        assert row.own_ratio == row.foreign_ratio == 1.0
        # z_t / sqrt(ab) - z0 is the noise times the ratio of noise to signal; 6144 samples.
        expected = float((1 - ALPHAS[row.timestep]) / ALPHAS[row.timestep])
        assert float(row.none.mean()) == pytest.approx(expected, rel=0.08)


def test_a_network_that_reads_answers_differently_to_none_own_and_foreign(
    unet: UNet2DConditionModel,
) -> None:
    (row,) = table(unet, 4, [400])
    assert bool((row.own != row.none).all())
    assert bool((row.foreign != row.own).all())


def test_the_foreign_reference_is_that_of_the_pair_half_a_table_away(unet: UNet2DConditionModel) -> None:
    own_swapped = latents(4, 2).roll(-2, 0)

    def estimate(z: Tensor, t: int) -> Tensor:
        return unet(z, t, encoder_hidden_states=TOKENS).sample

    frames = latents(4, 1)
    quiet = torch.ones_like(ALPHAS)
    with install(unet) as session:
        (one,) = reference_table(estimate, session, quiet, frames, latents(4, 2), timesteps=[400])
        (two,) = reference_table(estimate, session, quiet, frames, own_swapped, timesteps=[400])
    assert torch.equal(one.foreign, two.own)
    assert torch.equal(one.own, two.foreign)


def test_the_table_is_the_same_bits_each_time(unet: UNet2DConditionModel) -> None:
    first = table(unet, 2, [150, 600])
    torch.manual_seed(99)
    second = table(unet, 2, [150, 600])
    for one, two in zip(first, second, strict=True):
        assert torch.equal(one.none, two.none)
        assert torch.equal(one.own, two.own)
        assert torch.equal(one.foreign, two.foreign)


def test_pairs_know_nothing_of_each_other(unet: UNet2DConditionModel) -> None:
    (few,), (more,) = table(unet, 2, [400]), table(unet, 4, [400])
    assert torch.equal(few.none, more.none[:2])
    assert torch.equal(few.own, more.own[:2])
