"""Features of a pinned source, and uniform attention maps, on a small network of SD1.5's layout."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

from operators.attention.alone import Alone
from operators.attention.depth import appearance_layers, structure_layers, structure_residual
from operators.attention.harvest import Keep
from operators.attention.injection import Injection
from operators.attention.install import install
from operators.attention.reading import Reader, Reading
from operators.attention.session import SharedAttention
from operators.errors import OperatorError
from operators.inversion.ddim import ddim_invert
from operators.inversion.path import along, rungs
from operators.inversion.pinned import PinnedSource, SourceFeatures, slerp, structure
from operators.inversion.uniform_attention import uniform_cross_attention
from operators.solvers.base import restore
from tests.support.network_prior import NetworkPrior
from tests.support.tiny_models import tiny_sd_unet, tiny_sdxl_unet

TIMESTEPS = (401, 201, 1)


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return tiny_sd_unet().eval().requires_grad_(False)


@pytest.fixture
def session(unet: UNet2DConditionModel) -> Iterator[SharedAttention]:
    with install(unet) as session:
        yield session


def latents(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, 4, 16, 16, generator=torch.Generator().manual_seed(seed))


def pinned(unet: UNet2DConditionModel, session: SharedAttention, amount: float) -> PinnedSource:
    features = structure(structure_layers(unet), structure_residual(unet), amount)
    return PinnedSource(TIMESTEPS, NetworkPrior(unet, 1), session, features)


def test_published_layer_lists_are_those_of_sd15(unet: UNet2DConditionModel) -> None:
    def of(*blocks: str) -> set[str]:
        return {f"up_blocks.{block}.transformer_blocks.0.attn1.processor" for block in blocks}

    fine = [f"{i}.attentions.{j}" for i in (2, 3) for j in range(3)]
    assert structure_layers(unet) == of("1.attentions.1", "1.attentions.2", *fine)
    assert appearance_layers(unet) == of(*fine[1:])
    assert structure_residual(unet) == "up_blocks.1.resnets.1"


def test_other_layouts_take_the_same_share_of_their_decoder() -> None:
    sdxl = tiny_sdxl_unet()
    assert {name[:11] for name in structure_layers(sdxl)} == {"up_blocks.1"}
    assert structure_residual(sdxl) == "up_blocks.1.resnets.0"


def test_without_structure_it_is_ddim_from_the_inverted_source(
    unet: UNet2DConditionModel, session: SharedAttention
) -> None:
    z0, target = latents(2, 5), NetworkPrior(unet, 2)
    found = restore(pinned(unet, session, 0.0), z0, latents(2, 6), target)
    with torch.no_grad():
        z = ddim_invert(z0, TIMESTEPS, NetworkPrior(unet, 1))[0]
        for rung in rungs(target, TIMESTEPS):
            z = along(z, target.predict(z, rung.t).eps, rung.upper, rung.lower)
    assert torch.equal(found, z)


def test_the_more_structure_the_nearer_to_the_source(
    unet: UNet2DConditionModel, session: SharedAttention
) -> None:
    """Cross-attention of a random network hardly tells prompts apart; another start does."""
    z0, target = latents(1, 5), NetworkPrior(unet, 2)

    def changed(amount: float) -> Tensor:
        solver = pinned(unet, session, amount)
        shaken = PinnedSource(
            TIMESTEPS, solver.source, session, solver.features, noised=lambda z: z + 0.3 * latents(1, 9)
        )
        return (restore(shaken, z0, latents(1, 6), target) - z0).norm()

    assert changed(1.0) < changed(0.0)


def test_a_frame_does_not_depend_on_its_neighbours(
    unet: UNet2DConditionModel, session: SharedAttention
) -> None:
    z0, noise, target = latents(2, 5), latents(2, 6), NetworkPrior(unet, 2)
    solver = pinned(unet, session, 0.7)
    one = restore(solver, z0, noise, target)
    two = restore(solver, torch.cat([z0[:1], latents(1, 8)]), torch.cat([noise[:1], latents(1, 9)]), target)
    assert torch.equal(one[0], two[0])


@torch.no_grad()
def test_injecting_what_a_frame_has_itself_changes_nothing(
    unet: UNet2DConditionModel, session: SharedAttention
) -> None:
    prior, z = NetworkPrior(unet, 1), latents(2, 5)
    names = frozenset([structure_residual(unet)])
    plain = prior.predict(z, 201).eps
    keep = Keep(queries=True, residuals=names)
    own = session.harvest(lambda: prior.predict(z, 201), keep=keep)
    with session.injecting(Injection(own, structure_layers(unet), keys=1.0, values=1.0, residuals=names)):
        assert torch.equal(prior.predict(z, 201).eps, plain)
    other = session.harvest(lambda: prior.predict(latents(2, 6), 201), keep=keep)
    with session.injecting(Injection(other, structure_layers(unet), keys=1.0, residuals=names)):
        changed = prior.predict(z, 201).eps
    assert (changed - plain).abs().max() > 1e-3
    assert torch.equal(prior.predict(z, 201).eps, plain)


@torch.no_grad()
def test_a_source_branch_beside_an_edit_reads_nothing(
    unet: UNet2DConditionModel, session: SharedAttention
) -> None:
    prior, z = NetworkPrior(unet, 1), latents(1, 5)
    style = session.harvest(lambda: prior.predict(latents(1, 6), 201))
    plain = prior.predict(z, 201).eps
    with session.under(Reading((Reader(style),))):
        assert not torch.equal(prior.predict(z, 201).eps, plain)
        assert torch.equal(Alone(prior, session).predict(z, 201).eps, plain)


def test_injection_is_refused_where_outputs_are_carried_over(session: SharedAttention) -> None:
    carried = Reading(replace=lambda call: None)
    with session.under(carried), pytest.raises(OperatorError, match="cannot be injected"):
        session.injecting(Injection(session.harvest(lambda: None)))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_in_half_precision_the_edit_stays_near_that_of_float32(half: torch.dtype) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = tiny_sd_unet().eval().requires_grad_(False)
    z0, noise = latents(1, 5), latents(1, 6)

    def edit() -> Tensor:
        with install(net) as session:
            return restore(pinned(net, session, 0.7), z0, noise, NetworkPrior(net, 2))

    exact = edit()
    net.to(half)
    found = edit()
    assert found.dtype == torch.float32
    assert (found - exact).norm() < 0.05 * exact.norm()


def test_shares_outside_zero_and_one_are_refused() -> None:
    with pytest.raises(OperatorError, match="queries"):
        SourceFeatures(queries=1.5)
    with pytest.raises(OperatorError, match="structure"):
        structure(frozenset(), "", -0.1)


def test_mixing_noise_into_a_latent_keeps_its_norm() -> None:
    z, noise = latents(3, 1), latents(3, 2)
    mixed = slerp(z, noise, 0.3)
    norms = torch.stack([x.flatten(1).norm(dim=1) for x in (z, mixed, noise)])
    assert (norms[1] > norms.min(0).values * 0.95).all()
    assert (norms[1] < norms.max(0).values * 1.05).all()
    torch.testing.assert_close(slerp(z, z, 0.3), z)
    assert slerp(z, noise, 0.0) is z


@torch.no_grad()
def test_uniform_maps_are_attention_that_asks_nothing(unet: UNet2DConditionModel) -> None:
    """Published form: every token weighs 1 / L; with queries of zero the softmax says the same."""
    prior, z = NetworkPrior(unet, 1), latents(2, 5)
    before = dict(unet.attn_processors)
    with uniform_cross_attention(unet):
        found = prior.predict(z, 201).eps
        silent = [m for name, m in unet.named_modules() if name.endswith("attn2")]
        kept = [m.to_q.weight.clone() for m in silent]
        for attn in silent:
            attn.to_q.weight.zero_()
            attn.set_processor(AttnProcessor2_0())
        expected = prior.predict(z, 201).eps
        for attn, weight in zip(silent, kept, strict=True):
            attn.to_q.weight.copy_(weight)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert unet.attn_processors == before
    assert (prior.predict(z, 201).eps - found).abs().max() > 1e-4
