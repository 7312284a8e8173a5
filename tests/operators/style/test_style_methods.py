"""Style methods beyond their published vectors: identities, independence of rows, precision, refusals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from operators.attention.cross_contexts import BothBranches, Editorial, blend_contexts
from operators.attention.harvest import Harvest
from operators.attention.install import install
from operators.attention.session import SharedAttention
from operators.closed_form.mixture import VectorMixture, gaussian_vector_prior, two_modes
from operators.errors import ModelError, OperatorError
from operators.inversion.ddim import ddim_invert
from operators.models import LatentModel
from operators.solvers.base import restore
from operators.style.adapter_aggregation import AggregatedCrossAttnProcessor
from operators.style.aggregation import KeysValues, aggregated, paper_combinations
from operators.style.descriptor import ClipDescriptor, EncoderDescriptor, pooled_descriptor
from operators.style.latent_adain import adain_latents, channel_moments, pooled_channel_moments
from operators.style.optimal_control import Controlled, FullControl, ProximalControl, StyleTarget
from operators.style.previewer import fit_previewer
from operators.style.readings import ReplaceThenConcat, SharedWithStyle, StatisticsOnly, StyleInPlace
from operators.style.rival import NoiseAligned, permuted, reference_noise
from operators.style.schroedinger_bridge import latent_bridge
from operators.style.styleid import styleid
from operators.style.univst import AttentionShift
from tests.operators.attention.layouts import layout
from tests.support.network_prior import NetworkPrior
from tests.support.tiny_models import tiny_sd_unet

TIMESTEPS = (801, 401, 1)


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return tiny_sd_unet().eval().requires_grad_(False)


@pytest.fixture
def session(unet: UNet2DConditionModel) -> Iterator[SharedAttention]:
    with install(unet) as session:
        yield session


@pytest.fixture(scope="module")
def embedded() -> LatentModel:
    return LatentModel.from_pretrained("embedded")


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def latents(rows: int, seed: int) -> Tensor:
    return normal(rows, 4, 16, 16, seed=seed)


def harvest(prior: NetworkPrior, session: SharedAttention, z: Tensor) -> Harvest:
    return session.harvest(lambda: prior.predict(z, 401))


# --- readings ----------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_frame_that_is_its_own_style_is_left_alone_by_every_reading(
    unet: UNet2DConditionModel, session: SharedAttention
) -> None:
    prior, z = NetworkPrior(unet, 1), latents(1, 5)
    plain = prior.predict(z, 401).eps
    own = harvest(prior, session, z)
    layers = frozenset(name for name in unet.attn_processors if "attn1" in name)
    for method in (
        SharedWithStyle(),
        SharedWithStyle(0.0, norms=True),
        StatisticsOnly(),
        StyleInPlace(layers, sharpness=1.0),
        ReplaceThenConcat(),
    ):
        for t in (700, 500):
            with session.under(method.reading(own, t)):
                assert (prior.predict(z, 401).eps - plain).abs().max() < 1e-4, method


@torch.no_grad()
def test_every_reading_shows_a_foreign_style(unet: UNet2DConditionModel, session: SharedAttention) -> None:
    prior, z = NetworkPrior(unet, 1), latents(1, 5)
    plain = prior.predict(z, 401).eps
    style = harvest(prior, session, 3 * latents(1, 6))
    layers = frozenset(name for name in unet.attn_processors if "attn1" in name)
    for method in (SharedWithStyle(), StatisticsOnly(), StyleInPlace(layers), ReplaceThenConcat()):
        with session.under(method.reading(style, 700)):
            assert (prior.predict(z, 401).eps - plain).abs().max() > 1e-3, method


@torch.no_grad()
def test_in_other_layers_a_frame_reads_itself(unet: UNet2DConditionModel, session: SharedAttention) -> None:
    prior, z = NetworkPrior(unet, 1), latents(1, 5)
    style = harvest(prior, session, latents(1, 6))
    plain = prior.predict(z, 401).eps
    with session.under(StyleInPlace(frozenset()).reading(style, 401)):
        assert torch.equal(prior.predict(z, 401).eps, plain)


@torch.no_grad()
def test_univst_moves_from_the_frames_own_keys_to_the_styles_and_then_stops(
    unet: UNet2DConditionModel, session: SharedAttention
) -> None:
    shift = AttentionShift(frozenset())
    assert shift.own_share(0) == pytest.approx(0.9)
    assert shift.own_share(25) == pytest.approx(0.1)
    assert shift.reading(Harvest(), Harvest(), 26).is_plain


# --- latents, noise ----------------------------------------------------------------------------------


def test_adain_gives_latents_the_statistics_of_the_style() -> None:
    z, style = latents(3, 1), 2 * latents(1, 2) + 1
    found = channel_moments(adain_latents(z, channel_moments(style)))
    wanted = channel_moments(style)
    torch.testing.assert_close(found.mean, wanted.mean.expand_as(found.mean), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.std, wanted.std.expand_as(found.std), atol=1e-3, rtol=0)
    pooled = pooled_channel_moments(z)
    assert pooled.mean.shape == (1, 4, 1, 1)
    shared = adain_latents(z, channel_moments(style), pooled)
    torch.testing.assert_close(
        (shared[0] - shared[1]) / (z[0] - z[1]),
        (wanted.std / pooled.std)[0].expand(4, 16, 16),
        atol=1e-3,
        rtol=1e-3,
    )


def test_a_permutation_moves_cells_of_all_channels_alike() -> None:
    z = latents(2, 1)
    moved = permuted(z, "key", 3)
    assert torch.equal(moved, permuted(z, "key", 3))
    assert not torch.equal(moved, permuted(z, "key", 4))
    assert torch.equal(moved.flatten(2).sum(1).sort(1).values, z.flatten(2).sum(1).sort(1).values)


@torch.no_grad()
def test_rivals_noise_has_the_references_statistics_above_its_timestep_only(
    unet: UNet2DConditionModel,
) -> None:
    prior, z = NetworkPrior(unet, 1), latents(2, 5)
    trajectory = ddim_invert(latents(1, 6), TIMESTEPS, prior)
    moments = reference_noise(trajectory, TIMESTEPS, prior)
    assert set(moments) == {801}
    aligned = NoiseAligned(prior, moments)
    found = channel_moments(aligned.predict(z, 801).eps)
    torch.testing.assert_close(found.mean, moments[801].mean.expand_as(found.mean), atol=1e-4, rtol=0)
    assert torch.equal(aligned.predict(z, 401).eps, prior.predict(z, 401).eps)


def test_styleid_of_a_frame_with_itself_as_style_stays_near_its_reconstruction(
    unet: UNet2DConditionModel, session: SharedAttention
) -> None:
    prior, z0 = NetworkPrior(unet, 1), latents(1, 5)
    layers = frozenset(name for name in unet.attn_processors if "up_blocks" in name and "attn1" in name)
    with torch.no_grad():
        start = ddim_invert(z0, TIMESTEPS, prior)[0]
    solver = styleid(TIMESTEPS, prior, session, layers, channel_moments(start))
    own = restore(solver, z0, latents(1, 6), prior)
    foreign = styleid(TIMESTEPS, prior, session, layers, channel_moments(2 * start + 1))
    other = restore(foreign, z0, latents(1, 6), prior)
    assert (own - z0).norm() < 0.5 * (other - z0).norm()


# --- descriptors, previews, control ------------------------------------------------------------------


def pictures(rows: int, seed: int, side: int = 64) -> Tensor:
    """Detail in brightness and broad colours, as in real pictures."""
    light = normal(rows, 1, side // 8, side // 8, seed=seed)
    colour = normal(rows, 3, side // 32, side // 32, seed=seed + 100)
    parts = [(0.4 * light, 8), (0.3 * colour, 32)]
    return sum(F.interpolate(x, scale_factor=scale, mode="bicubic") for x, scale in parts).clamp(-1, 1)


def tiny_clip(folder: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        config = CLIPVisionConfig(
            hidden_size=16, intermediate_size=24, projection_dim=8, num_hidden_layers=2,
            num_attention_heads=2, image_size=32, patch_size=8,
        )  # fmt: skip
        CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


def test_descriptors_are_unit_vectors_of_single_pictures(embedded: LatentModel, tmp_path: Path) -> None:
    clip = ClipDescriptor.load(tiny_clip(tmp_path))
    save_file({"style": normal(16, 5, seed=3)}, tmp_path / "csd.safetensors")
    csd = ClipDescriptor.load(tmp_path)
    x = pictures(3, 1)[:, :, :50]
    for describe, width in ((EncoderDescriptor(embedded), None), (clip, 8), (csd, 5)):
        found = describe(x)
        assert width in (None, found.shape[1])
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
        torch.testing.assert_close(describe(x[1:2])[0], found[1], atol=1e-5, rtol=1e-4)


def test_a_descriptor_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no CLIP vision tower"):
        ClipDescriptor.load(tmp_path)
    tiny_clip(tmp_path)
    save_file({"style": normal(7, 5, seed=3)}, tmp_path / "csd.safetensors")
    with pytest.raises(ModelError, match="16 wide"):
        ClipDescriptor.load(tmp_path)


def test_several_references_pull_by_their_weights(embedded: LatentModel) -> None:
    describe = EncoderDescriptor(embedded)
    a, b = pictures(1, 1), pictures(1, 2)
    both = pooled_descriptor(describe, [a, b], [3.0, 1.0])
    torch.testing.assert_close(both.norm(dim=1), torch.ones(1))
    assert (both @ describe(a).T) > (both @ describe(b).T)
    torch.testing.assert_close(pooled_descriptor(describe, [a], [2.0]), describe(a))


@pytest.mark.parametrize("resolution", [1, 2, 4])
def test_a_fitted_preview_is_near_the_shrunken_picture(embedded: LatentModel, resolution: int) -> None:
    x = pictures(4, 3)
    preview = fit_previewer(x, embedded, resolution)
    found = preview(embedded.encode(pictures(1, 9)))
    wanted = F.avg_pool2d(pictures(1, 9), 4 // resolution)
    assert found.shape == wanted.shape
    assert (found - wanted).square().mean().sqrt() < 0.06
    with pytest.raises(OperatorError, match="resolution 3"):
        fit_previewer(x, embedded, 3)


def control_target(embedded: LatentModel) -> StyleTarget:
    preview, describe = fit_previewer(pictures(4, 3), embedded, 4), EncoderDescriptor(embedded)
    return StyleTarget(describe(pictures(1, 8) * 0.3 + 0.5), describe, preview)


@pytest.mark.parametrize("optimiser", ["adam", "normalised"])
def test_the_control_comes_nearer_to_the_style_row_by_row(embedded: LatentModel, optimiser: str) -> None:
    target = control_target(embedded)
    with torch.no_grad():
        z0 = embedded.encode(pictures(2, 1))
        moved = ProximalControl(target, rate=0.05, anchor=0.0, optimiser=optimiser).moved(z0, 0.0)
        assert (target.distance(moved) < target.distance(z0)).all()
        other = torch.cat([z0[:1], embedded.encode(pictures(1, 4))])
        again = ProximalControl(target, rate=0.05, anchor=0.0, optimiser=optimiser).moved(other, 0.0)
        assert torch.equal(again[0], moved[0])
        held = ProximalControl(target, rate=0.05, anchor=100.0, optimiser=optimiser).moved(z0, 0.0)
        assert (held - z0).norm() < (moved - z0).norm()


def test_control_through_the_network_comes_nearer_too(embedded: LatentModel) -> None:
    from operators.models import BoundPrior

    target, prior = control_target(embedded), BoundPrior(embedded)
    with torch.no_grad():
        z = embedded.encode(pictures(1, 1))
        plain = prior.predict(z, 201)
        full = FullControl(prior, target, rate=0.5).predict(z, 201)
        assert target.distance(full.z0) < target.distance(plain.z0)


def test_consistent_noise_belongs_to_the_moved_estimate(embedded: LatentModel) -> None:
    from operators.models import BoundPrior
    from operators.solvers.levels import level
    from operators.solvers.step_rules import recombine

    prior, control = BoundPrior(embedded), ProximalControl(control_target(embedded))
    with torch.no_grad():
        z = embedded.encode(pictures(1, 1))
        kept = Controlled(prior, control, (401, 201)).predict(z, 401)
        fitting = Controlled(prior, control, (401, 201), renoise="consistent").predict(z, 401)
        outside = Controlled(prior, control, (401, 201), until=0.5).predict(z, 201)
        plain = prior.predict(z, 401)
    assert torch.equal(kept.z0, fitting.z0)
    assert torch.equal(kept.eps, plain.eps)
    torch.testing.assert_close(recombine(fitting.z0, fitting.eps, level(prior, 401)), z)
    with torch.no_grad():
        assert torch.equal(outside.z0, prior.predict(z, 201).z0)


# --- aggregation, prompts ----------------------------------------------------------------------------


def test_aggregation_averages_the_papers_combinations() -> None:
    q = normal(1, 2, 5, 4, seed=1)
    own, text, style, content = (
        KeysValues(normal(1, 2, n, 4, seed=n), normal(1, 2, n, 4, seed=n + 10)) for n in (5, 7, 4, 3)
    )
    same = aggregated(q, paper_combinations([own], text, text))
    one = aggregated(q, [[own, text]])
    double = aggregated(q, [[own, text, text]])
    torch.testing.assert_close(same, (2 * one + double) / 3)
    assert len(paper_combinations([], text, style)) == 3
    assert len(paper_combinations([own], text, style, content)) == 4
    assert all(parts[0] is own for parts in paper_combinations([own], text, style, content))


@torch.no_grad()
def test_aggregation_attends_with_the_projections_of_an_adapter() -> None:
    attn = layout("sd15").unet.up_blocks[3].attentions[0].transformer_blocks[0].attn2
    with torch.random.fork_rng():
        torch.manual_seed(7)
        adapter = IPAdapterAttnProcessor2_0(32, cross_attention_dim=32, num_tokens=(4,))
    x, text, image = normal(2, 9, 32, seed=1), normal(2, 7, 32, seed=2), normal(2, 1, 4, 32, seed=3)
    attn.set_processor(AggregatedCrossAttnProcessor(adapter))
    found = attn(x, encoder_hidden_states=(text, [image]))
    # A style picture whose tokens look to the layer as its text does is the text.
    adapter.to_k_ip[0].weight.copy_(attn.to_k.weight)
    adapter.to_v_ip[0].weight.copy_(attn.to_v.weight)
    one_word = text.mean(1, keepdim=True).expand(-1, 4, -1)
    same = attn(x, encoder_hidden_states=(one_word, [one_word[:, None]]))
    assert found.shape == x.shape
    attn.set_processor(AttnProcessor2_0())
    torch.testing.assert_close(same, attn(x, encoder_hidden_states=one_word), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_second_prompt_of_weight_zero_or_equal_to_the_first_changes_nothing() -> None:
    net = layout("sd15")
    z, before = net.latent(2, 1), dict(net.unet.attn_processors)
    plain = net.call(z)
    main = normal(1, 7, 32, seed=5)
    other = normal(1, 7, 32, seed=9)
    for editorial in (Editorial(other, 0.0), Editorial(main, 0.7)):
        with blend_contexts(net.unet, [editorial]):
            torch.testing.assert_close(net.call(z), plain, atol=1e-5, rtol=1e-5)
    assert dict(net.unet.attn_processors) == before


@torch.no_grad()
def test_prompts_are_blended_in_the_prompted_branch_and_rows_stay_apart() -> None:
    net = layout("sd15")
    z = net.latent(2, 1)
    plain = net.call(z)
    with blend_contexts(
        net.unet, [Editorial(3 * normal(1, 5, 32, seed=9), 0.7, 0.01)], gamma=0.01
    ) as contexts:
        blended = net.call(z)
        assert torch.equal(net.call(z), blended), "contexts drift from call to call"
        assert torch.equal(net.call(torch.cat([z[:1], net.latent(1, 3)]))[0], blended[0])
        contexts.branch = "uncond"
        torch.testing.assert_close(net.call(z), plain, atol=1e-6, rtol=1e-6)
    assert (blended - plain).abs().max() > 1e-4


def test_both_listeners_are_told_the_branch(session: SharedAttention) -> None:
    net = layout("sd15")
    with blend_contexts(net.unet, [Editorial(torch.zeros(1, 1, 32), 0.5)]) as contexts:
        both = BothBranches(session, contexts)
        both.branch = "uncond"
    assert {both.branch, session.branch, contexts.branch} == {"uncond"}


def test_weights_that_cancel_the_main_prompt_are_refused() -> None:
    net = layout("sd15")
    with (
        pytest.raises(OperatorError, match="weights sum to -1"),
        blend_contexts(net.unet, [Editorial(torch.zeros(1, 1, 32), -1.0)]),
    ):
        pass


def test_the_context_update_climbs_the_energy_it_is_derived_from() -> None:
    """EBCA's posterior: logsumexp over cells of k q^T, less half of logsumexp over tokens of |k|^2."""
    from operators.attention.cross_contexts import _heads, _updated

    net = layout("sd15")
    attn = net.unet.up_blocks[3].attentions[0].transformer_blocks[0].attn2
    tokens, context = normal(1, 20, 32, seed=1), normal(1, 7, 32, seed=2)

    def energy(c: Tensor) -> float:
        q, k = _heads(attn, attn.to_q(tokens)), _heads(attn, attn.to_k(c))
        scale = math.sqrt(q.shape[3])
        drawn = scale * (k @ q.transpose(2, 3) / scale).logsumexp(3).sum()
        return float(drawn - 0.5 * k.square().sum(3).logsumexp(2).sum())

    with torch.no_grad():
        moved = _updated(attn, _heads(attn, attn.to_q(tokens)), context, 1e-3)
        assert energy(moved) > energy(context)


# --- bridges -----------------------------------------------------------------------------------------


def test_a_bridge_carries_a_gaussian_towards_its_target() -> None:
    source = gaussian_vector_prior(6)
    target = VectorMixture(source.weights, source.means + 1.5, source.covariances)
    z0 = source.draw(400)
    noise = torch.randn(z0.shape, dtype=z0.dtype, generator=torch.Generator().manual_seed(2))

    def carried(weight: float) -> Tensor:
        return restore(latent_bridge(target, source, 40, weight=weight), z0, noise, target)

    found = carried(1.0)
    assert 0.6 * 1.5 < float((found - z0).mean()) < float((carried(2.0) - z0).mean()) < 1.2 * 1.5
    # Content is kept: what comes out correlates with what went in.
    both = torch.stack([(found - found.mean(0)).flatten(), (z0 - z0.mean(0)).flatten()])
    assert float(torch.corrcoef(both)[0, 1]) > 0.3


def test_a_bridge_is_widest_in_the_middle_and_refuses_what_it_cannot_do() -> None:
    prior = two_modes(3)
    bridge = latent_bridge(prior, prior, 8)
    assert max(bridge.timesteps) == bridge.timesteps[min(range(8), key=lambda i: abs(bridge.times[i] - 0.5))]
    assert bridge.times[0] == pytest.approx(0.2)
    with pytest.raises(OperatorError, match="begin"):
        latent_bridge(prior, prior, 8, begin=0.0)
