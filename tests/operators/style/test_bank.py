"""The style bank: one reference is what it was, several mix by weight, and it survives being stored."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save

from operators.attention.install import install
from operators.attention.mixture import mixed_harvests
from operators.attention.policies.scene import Independent
from operators.errors import OperatorError
from operators.models import BoundPrior, LatentModel
from operators.replay import MethodReading, run_stage
from operators.style.bank import BankRecipe, StyleBank, build_bank, mixed_statistics
from operators.style.descriptor import EncoderDescriptor
from operators.style.readings import SharedWithStyle
from operators.style.style_aligned import style_reference
from operators.style.transport import latent_statistics
from tests.operators.test_replay import TIMESTEPS, clip, picture, stage_of, unit


@pytest.fixture(scope="module")
def model() -> LatentModel:
    return LatentModel.from_pretrained("embedded")


def bank_of(model: LatentModel, *weighted: tuple[int, float]) -> StyleBank:
    recipe = BankRecipe(TIMESTEPS, noise_above=0, descriptor=EncoderDescriptor(model))
    pictures = [picture(seed) for seed, _ in weighted]
    return build_bank(pictures, [weight for _, weight in weighted], recipe, BoundPrior(model), "m")


def test_one_reference_is_the_reference_and_equal_ones_are_one(model: LatentModel) -> None:
    with install(model.unet, decoder_only=True) as session:
        stage = stage_of((model, session))
        with torch.no_grad():
            single = style_reference(picture(8), TIMESTEPS, BoundPrior(model))

        def styled(reference: object) -> torch.Tensor:
            by = replace(stage, style=MethodReading(reference, SharedWithStyle(norms=True)))
            return run_stage(by, [unit(clip(3)[1], 1)], Independent())[0].pictures

        expected = styled(single)
        assert torch.equal(styled(bank_of(model, (8, 5.0))), expected)
        torch.testing.assert_close(styled(bank_of(model, (8, 3.0), (8, 1.0))), expected, atol=1e-4, rtol=0)
        mostly, hardly = (styled(bank_of(model, (8, w), (3, 1.0))) for w in (50.0, 0.02))
    assert (mostly - expected).norm() < (hardly - expected).norm()


def test_a_bank_survives_being_stored(model: LatentModel) -> None:
    bank = bank_of(model, (8, 3.0), (3, 1.0))
    again = StyleBank.from_tensors(bank.digest, load(save(bank.to_tensors())))
    assert [w for _, w in again.parts] == [0.75, 0.25]
    for (a, _), (b, _) in zip(bank.parts, again.parts, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(bank.descriptor, again.descriptor)
    assert torch.equal(bank.statistics.covariance, again.statistics.covariance)
    assert bank.noise.keys() == again.noise.keys() == set(TIMESTEPS)
    assert all(torch.equal(bank.noise[t].std, again.noise[t].std) for t in TIMESTEPS)


def test_the_digest_names_pictures_weights_and_model(model: LatentModel) -> None:
    first = bank_of(model, (8, 3.0), (3, 1.0))
    assert bank_of(model, (8, 6.0), (3, 2.0)).digest == first.digest
    recipe = BankRecipe(TIMESTEPS)
    prior, pictures = BoundPrior(model), [picture(8)]
    digests = {
        first.digest,
        bank_of(model, (8, 3.0), (3, 2.0)).digest,
        bank_of(model, (8, 3.0), (4, 1.0)).digest,
        build_bank(pictures, [1.0], recipe, prior, "a").digest,
        build_bank(pictures, [1.0], recipe, prior, "b").digest,
        build_bank(pictures, [1.0], replace(recipe, iterations=2), prior, "a").digest,
    }
    assert len(digests) == 6


@pytest.mark.parametrize(("count", "weights"), [(0, []), (1, [0.0]), (1, [1.0, 2.0]), (1, [float("nan")])])
def test_weights_that_mean_nothing_are_refused(model: LatentModel, count: int, weights: list[float]) -> None:
    with pytest.raises(OperatorError, match="reference"):
        build_bank([picture(1)] * count, weights, BankRecipe(TIMESTEPS), BoundPrior(model), "m")


def test_mixed_statistics_are_those_of_the_pictures_together() -> None:
    draws = [torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(n)) + n for n in (0, 1)]
    mixed = mixed_statistics([latent_statistics(z) for z in draws], [0.5, 0.5])
    together = latent_statistics(torch.cat(draws))
    torch.testing.assert_close(mixed.mean, together.mean)
    torch.testing.assert_close(mixed.covariance, together.covariance)


def test_a_single_harvest_is_returned_as_it_is() -> None:
    marker = object()
    assert mixed_harvests([marker], [1.0]) is marker
