"""The networks: awake attention, reproducible first weights, and the shapes of the shipped checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from operators.models import EMBEDDED
from operators.training.networks import (
    CHANNELS,
    MATCH_GAIN,
    new_autoencoder,
    new_prior,
    scheduler,
    wake_attention,
)

LARGEST_SHIPPED = 25_000_000


@pytest.fixture(scope="module")
def prior() -> UNet2DConditionModel:
    return new_prior(None, 3, wake=False)


def self_attentions(unet: UNet2DConditionModel) -> dict[str, Any]:
    return {name: module for name, module in unet.named_modules() if name.endswith("attn1")}


def equal(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def shares(attention: Any, tokens: Tensor) -> Tensor:
    """Attention of each head over ``tokens`` [L, C]: [heads, L, L]."""
    q, k = (
        p(tokens).unflatten(1, (attention.heads, -1)).transpose(0, 1)
        for p in (attention.to_q, attention.to_k)
    )
    return (q @ k.transpose(1, 2) / q.shape[2] ** 0.5).softmax(2)


def test_awake_queries_and_keys_are_equal_and_orthogonal_and_values_are_not_theirs(
    prior: UNet2DConditionModel,
) -> None:
    layers = self_attentions(prior)
    assert len(layers) == 7
    for attention in layers.values():
        weight = attention.to_q.weight.detach()
        assert torch.equal(weight, attention.to_k.weight)
        identity = MATCH_GAIN**2 * torch.eye(len(weight))
        torch.testing.assert_close(weight @ weight.T, identity, atol=1e-4, rtol=0)
        assert not torch.equal(weight, attention.to_v.weight)
        assert not attention.to_out[0].bias.any()


@torch.no_grad()
def test_awake_attention_prefers_the_identical_token_and_sleeping_attention_does_not(
    prior: UNet2DConditionModel,
) -> None:
    asleep = UNet2DConditionModel.from_config(prior.config)
    for name, attention in self_attentions(prior).items():
        width = attention.to_q.in_features
        # What a layer norm hands over: rows of variance one.
        tokens = nn.functional.layer_norm(
            torch.randn(64, width, generator=torch.Generator().manual_seed(1)), (width,)
        )
        own = shares(attention, tokens).diagonal(dim1=1, dim2=2)
        assert float(own.mean()) > 0.95
        tired = shares(self_attentions(asleep)[name], tokens).diagonal(dim1=1, dim2=2)
        assert float(tired.mean()) < 0.1


@torch.no_grad()
def test_waking_changes_self_attention_and_nothing_else(prior: UNet2DConditionModel) -> None:
    other = new_prior(None, 3, wake=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(77)
        wake_attention(other)
    changed = {
        name
        for (name, a), b in zip(prior.named_parameters(), other.parameters(), strict=True)
        if not torch.equal(a, b)
    }
    expected = {
        f"{n}.{p}.weight" for n in self_attentions(prior) for p in ("to_q", "to_k", "to_v", "to_out.0")
    }
    assert changed == expected


@pytest.mark.parametrize(
    "make",
    [lambda seed: new_prior(None, seed, wake=False), lambda seed: new_autoencoder(None, seed)],
    ids=["prior", "autoencoder"],
)
def test_fresh_weights_are_a_function_of_the_seed_and_leave_the_global_generator_alone(
    make: Callable[[int], nn.Module],
) -> None:
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    one = make(5)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(10)
    assert equal(one, make(5))
    assert not equal(one, make(6))


def test_a_started_prior_is_the_shipped_one_until_it_is_woken() -> None:
    state = torch.random.get_rng_state()
    started, woken = new_prior(EMBEDDED, 0, wake=False), new_prior(EMBEDDED, 0, wake=True)
    assert torch.equal(torch.random.get_rng_state(), state)
    shipped = UNet2DConditionModel.from_pretrained(EMBEDDED, subfolder="unet", torch_dtype=torch.float32)
    assert equal(started, shipped)
    assert {p.dtype for p in started.parameters()} == {torch.float32}
    for name, attention in self_attentions(woken).items():
        assert torch.equal(attention.to_q.weight, attention.to_k.weight), name
    assert torch.equal(woken.conv_in.weight, shipped.conv_in.weight)


def stated(config: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps({k: v for k, v in config.items() if not k.startswith("_")}))


def test_fresh_networks_have_the_configuration_of_the_shipped_files(prior: UNet2DConditionModel) -> None:
    for part, network in (("unet", prior), ("vae", new_autoencoder(None, 0))):
        shipped = json.loads((EMBEDDED / part / "config.json").read_text())
        assert stated(dict(network.config)) == stated(shipped)
    shipped = json.loads((EMBEDDED / "scheduler" / "scheduler_config.json").read_text())
    assert stated(dict(scheduler().config)) == stated(shipped)


@torch.no_grad()
def test_the_shipped_files_are_small_and_load_in_plain_diffusers() -> None:
    files = [path for path in EMBEDDED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LARGEST_SHIPPED
    vae = AutoencoderKL.from_pretrained(EMBEDDED, subfolder="vae", torch_dtype=torch.float32)
    unet = UNet2DConditionModel.from_pretrained(EMBEDDED, subfolder="unet", torch_dtype=torch.float32)
    noise = DDIMScheduler.from_pretrained(EMBEDDED, subfolder="scheduler")
    z = vae.encode(torch.zeros(1, 3, 64, 64)).latent_dist.mode()
    assert z.shape == (1, CHANNELS, 16, 16)
    condition = torch.zeros(1, 14, unet.config.cross_attention_dim)
    noise.set_timesteps(10)
    t = int(noise.timesteps[5])
    output = unet(z, t, encoder_hidden_states=condition).sample
    assert bool(torch.isfinite(noise.step(output, t, z).prev_sample).all())
    assert vae.decode(z).sample.shape == (1, 3, 64, 64)
