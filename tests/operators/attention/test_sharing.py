"""Shared attention on a real UNet: algebra, isolation, restoration."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from operators.attention.install import install, shared_layers
from operators.attention.reading import Reader
from tests.support.tiny_models import tiny_sd_unet


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(3)
    return tiny_sd_unet().eval().requires_grad_(False)


def latents(rows: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, 4, 16, 16, generator=torch.Generator().manual_seed(seed))


TOKENS = torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(5))


def call(unet: UNet2DConditionModel, z: torch.Tensor) -> torch.Tensor:
    return unet(z, 500, encoder_hidden_states=TOKENS.expand(z.shape[0], -1, -1)).sample


@torch.no_grad()
def test_with_nothing_to_read_the_network_is_unchanged(unet: UNet2DConditionModel) -> None:
    z = latents(2, 1)
    plain = call(unet, z)
    with install(unet):
        torch.testing.assert_close(call(unet, z), plain, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_reading_copies_of_itself_is_reading_nothing(unet: UNet2DConditionModel) -> None:
    z = latents(1, 1)
    plain = call(unet, z)
    with install(unet) as session:
        own = session.harvest(lambda: call(unet, z))
        readers = [Reader(own, bias=0.69), Reader(own, row_bias=torch.tensor([-1.0]))]
        with session.reading(readers):
            torch.testing.assert_close(call(unet, z), plain, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_another_reference_does_change_the_output(unet: UNet2DConditionModel) -> None:
    z, other = latents(1, 1), latents(1, 2)
    plain = call(unet, z)
    with install(unet) as session:
        reference = session.harvest(lambda: call(unet, other))
        with session.reading([Reader(reference)]):
            changed = call(unet, z)
    assert (changed - plain).abs().max() > 1e-3


@torch.no_grad()
def test_rows_of_a_batch_do_not_see_each_other_unless_joint(unet: UNet2DConditionModel) -> None:
    z = latents(3, 1)
    replaced = torch.cat([z[:1], latents(2, 9)])
    with install(unet) as session:
        reference = session.harvest(lambda: call(unet, latents(1, 2)))
        with session.reading([Reader(reference, row_bias=torch.tensor([-0.1, -1.0, -2.0]))]):
            assert torch.equal(call(unet, z)[0], call(unet, replaced)[0])
        with session.reading([], joint=True):
            assert (call(unet, z)[0] - call(unet, replaced)[0]).abs().max() > 1e-4


@torch.no_grad()
def test_joint_rows_are_one_long_row_of_tokens(unet: UNet2DConditionModel) -> None:
    """Equal rows attending jointly see duplicated keys, which do not change a softmax average."""
    z = latents(1, 4)
    plain = call(unet, z)
    with install(unet) as session, session.reading([], joint=True):
        joint = call(unet, z.expand(3, -1, -1, -1))
    torch.testing.assert_close(joint, plain.expand(3, -1, -1, -1), atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_a_replayed_reference_leaves_the_same_bits_whoever_replays_it(unet: UNet2DConditionModel) -> None:
    z = latents(1, 6)
    with install(unet) as first:
        one = first.harvest(lambda: call(unet, z))
    with install(unet) as second:
        with second.reading([], joint=True):
            call(unet, latents(2, 8))
        two = second.harvest(lambda: call(unet, z))
    assert all(torch.equal(one.layers[key].k, two.layers[key].k) for key in one.layers)
    assert one.layers.keys() == two.layers.keys() != set()


@torch.no_grad()
def test_branches_keep_banks_of_their_own(unet: UNet2DConditionModel) -> None:
    with install(unet) as session:

        def both() -> None:
            for branch, seed in (("cond", 1), ("uncond", 2)):
                session.branch = branch
                call(unet, latents(1, seed))

        harvest = session.harvest(both)
    layer = shared_layers(unet, decoder_only=True)[0]
    assert not torch.equal(harvest.layers[("cond", layer)].k, harvest.layers[("uncond", layer)].k)


def test_processors_and_norms_come_back_even_after_an_error(unet: UNet2DConditionModel) -> None:
    before = {name: type(processor) for name, processor in unet.attn_processors.items()}

    def break_inside() -> None:
        with install(unet, decoder_only=True):
            assert {name: type(processor) for name, processor in unet.attn_processors.items()} != before
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        break_inside()
    assert {name: type(processor) for name, processor in unet.attn_processors.items()} == before
    assert all("forward" not in vars(module) for module in unet.modules())


def test_two_models_in_one_process_do_not_interfere(unet: UNet2DConditionModel) -> None:
    torch.manual_seed(11)
    other = tiny_sd_unet().eval().requires_grad_(False)
    z = latents(1, 1)
    with torch.no_grad(), install(unet) as mine, install(other) as theirs:
        plain = call(other, z)
        reference = mine.harvest(lambda: call(unet, latents(1, 2)))
        with mine.reading([Reader(reference)]):
            assert torch.equal(call(other, z), plain)
        assert theirs is not mine


def test_gradients_reach_the_latent_through_a_shared_bank(unet: UNet2DConditionModel) -> None:
    with install(unet) as session:
        reference = session.harvest(lambda: call(unet, latents(1, 2)))
        z = latents(1, 1).requires_grad_(True)
        with session.reading([Reader(reference, bias=0.5)]):
            call(unet, z).square().sum().backward()
    assert z.grad is not None
    assert z.grad.abs().max() > 0
