"""Sharing on every layout: the same algebra, precision by precision, and everything else left alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from operators.attention.bias import log_weight
from operators.attention.install import install, shared_layers
from operators.attention.reading import Reader
from operators.attention.session import SharedAttention
from operators.attention.tokens import TokenChoice
from operators.errors import OperatorError
from tests.operators.attention.layouts import LAYOUTS, Layout, layout

WEIGHTS = torch.tensor([0.25])


@pytest.fixture(scope="module", params=LAYOUTS)
def net(request: pytest.FixtureRequest) -> Layout:
    return layout(request.param)


def readers_of(net: Layout, session: SharedAttention, *seeds: int, **facts: object) -> list[Reader]:
    """The first reference with a static bias, the others with a row weight."""
    harvests = [session.harvest(lambda s=s: net.call(net.latent(1, s)), **facts) for s in seeds]
    first, *others = harvests
    return [Reader(first, bias=0.6), *(Reader(h, row_bias=log_weight(WEIGHTS)) for h in others)]


class DenseAttention:
    """Sharing as one would write it first: all keys side by side, a mask of biases, a written-out softmax.
    Stores keys and values of the reference passes by layer and reads them in the frame's pass."""

    def __init__(self, biases: list[float]) -> None:
        self.biases, self.stored, self.reading = biases, {}, False

    def processor(self, layer: str) -> object:
        return lambda attn, hidden_states, *args, **kwargs: self.attend(layer, attn, hidden_states)

    def attend(self, layer: str, attn: Attention, x: Tensor) -> Tensor:
        q, k, v = (
            to(x).unflatten(2, (attn.heads, -1)).transpose(1, 2) for to in (attn.to_q, attn.to_k, attn.to_v)
        )
        bias = x.new_zeros(k.shape[2])
        if self.reading:
            own = k.shape[2]
            k = torch.cat([k, *(one[0] for one in self.stored[layer])], 2)
            v = torch.cat([v, *(one[1] for one in self.stored[layer])], 2)
            bias = torch.cat([bias, *(x.new_full((own,), b) for b in self.biases)])
        else:
            self.stored.setdefault(layer, []).append((k.detach(), v.detach()))
        weights = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5 + bias).softmax(3)
        out = (weights @ v).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](out))


def dense_gradient(net: Layout, z: Tensor, seeds: tuple[int, ...], biases: list[float]) -> Tensor:
    """Gradient of sum(out^2) with respect to the frame, by `DenseAttention` in the decoder."""
    dense = DenseAttention(biases)
    before = net.unet.attn_processors
    shared = shared_layers(net.unet, decoder_only=True)
    net.unet.set_attn_processor({**before, **{name: dense.processor(name) for name in shared}})
    try:
        with torch.no_grad():
            for seed in seeds:
                net.call(net.latent(1, seed))
        dense.reading = True
        return gradient(net, z)
    finally:
        net.unet.set_attn_processor(before)


def gradient(net: Layout, z: Tensor) -> Tensor:
    z = z.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(net.call(z).square().sum(), z)
    return found


@torch.no_grad()
def test_a_bank_of_copies_of_the_frame_is_no_bank(net: Layout) -> None:
    z = net.latent(1, 1)
    plain = net.call(z)
    with install(net.unet) as session:
        own = session.harvest(lambda: net.call(z))
        with session.reading([Reader(own, bias=0.69), Reader(own, row_bias=log_weight(WEIGHTS))]):
            read = net.call(z)
    assert (read - plain).abs().max() < 1e-5 * plain.abs().max().clamp_min(1)


@torch.no_grad()
def test_a_duplicated_reference_is_the_reference_with_twice_the_weight(net: Layout) -> None:
    z = net.latent(1, 1)
    with install(net.unet) as session:
        harvest = session.harvest(lambda: net.call(net.latent(1, 2)))
        half = torch.tensor([0.5])
        with session.reading([Reader(harvest)]):
            once = net.call(z)
        with session.reading([Reader(harvest, row_bias=log_weight(half))] * 2):
            twice = net.call(z)
    assert (twice - once).abs().max() < 1e-5 * once.abs().max().clamp_min(1)


@torch.no_grad()
def test_recomputed_keys_and_values_are_the_stored_bits(net: Layout) -> None:
    """With frames of other content and other batch sizes computed in between."""
    z = net.latent(1, 6)
    choice = TokenChoice(20, ("bits",))
    with install(net.unet, decoder_only=True) as session:
        stored = session.harvest(lambda: net.call(z), choice=choice)
        with session.reading([Reader(stored)]):
            net.call(net.latent(3, 7))
        again = session.harvest(lambda: net.call(z), choice=choice)
    assert stored.layers.keys() == again.layers.keys()
    assert {key[1] for key in stored.layers} == set(shared_layers(net.unet, decoder_only=True)) != set()
    for key, layer in stored.layers.items():
        assert torch.equal(layer.k, again.layers[key].k)
        assert torch.equal(layer.v, again.layers[key].v)


def test_the_gradient_of_the_frame_is_that_of_a_dense_implementation(net: Layout) -> None:
    """References are constants in both; gradient solvers see the same slope."""
    z, seeds = net.latent(1, 1), (2, 3)
    expected = dense_gradient(net, z, seeds, [0.6, float(WEIGHTS.log())])
    with install(net.unet, decoder_only=True) as session:
        readers = readers_of(net, session, *seeds)
        alone = gradient(net, z)
        with session.reading(readers):
            found = gradient(net, z)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert (alone - expected).abs().max() > 10 * (found - expected).abs().max()


@pytest.mark.parametrize("when", ["before", "inside"])
def test_gradient_checkpointing_reads_the_same_bank_when_it_computes_again(net: Layout, when: str) -> None:
    """Backward runs after the reading was left, in another branch, with another reading in force and after
    a latent of another size: what is computed again must be what was computed."""
    z = net.latent(1, 1)
    choice = TokenChoice(20, ("again",))
    with install(net.unet, decoder_only=True) as session:
        readers = readers_of(net, session, 2, 3)
        with session.reading(readers):
            expected = gradient(net, z)
    if when == "before":
        net.unet.enable_gradient_checkpointing()
    try:
        with install(net.unet, decoder_only=True) as session:
            if when == "inside":
                net.unet.enable_gradient_checkpointing()
            readers = readers_of(net, session, 2, 3)
            others = readers_of(net, session, 8, choice=choice)
            leaf = z.clone().requires_grad_(True)
            with session.reading(readers):
                loss = net.call(leaf).square().sum()
            session.branch = "uncond"
            with session.reading([], joint=True), torch.no_grad():
                net.call(net.latent(2, 4, side=8))
            session.branch = "cond"
            with session.reading(others):
                session.branch = "uncond"
                (found,) = torch.autograd.grad(loss, leaf)
                assert session.branch == "uncond"
    finally:
        net.unet.disable_gradient_checkpointing()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize("how", ["weights", "autocast"])
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_half_precision_stays_near_float32_whatever_the_weights(half: torch.dtype, how: str) -> None:
    net = layout("sd15")
    z, zero = net.latent(1, 1), log_weight(torch.zeros(1))

    def read() -> tuple[Tensor, Tensor]:
        with install(net.unet, decoder_only=True) as session:
            first, second = readers_of(net, session, 2, 3)
            vanishing = Reader(session.harvest(lambda: net.call(net.latent(1, 9))), row_bias=zero)
            with session.reading([first, second]):
                without = net.call(net.latent(1, 1))
            with session.reading([first, second, vanishing]):
                return without, net.call(net.latent(1, 1))

    expected, _ = read()
    if how == "weights":
        net.unet.to(half)
        without, found = read()
    else:
        with torch.autocast("cpu", half):
            without, found = read()
    assert found.isfinite().all()
    assert (found.float() - expected).abs().max() < 0.1 * expected.abs().max()
    assert (found - without).abs().max() <= 2**-6 * expected.abs().max(), "a knot of weight zero is seen"
    assert z.dtype == torch.float32


@torch.no_grad()
def test_cross_attention_keeps_its_processors_and_what_replaces_them_inside() -> None:
    """Adapters live on attn2: they run inside the block and survive it."""

    class Adapter(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls, self.inner = 0, AttnProcessor2_0()

        def __call__(self, *args: object, **kwargs: object) -> Tensor:
            self.calls += 1
            return self.inner(*args, **kwargs)

    net = layout("sd15")
    crosses = [m for name, m in net.unet.named_modules() if name.endswith("attn2")]
    adapters = [Adapter() for _ in crosses]
    for attn, adapter in zip(crosses, adapters, strict=True):
        attn.set_processor(adapter)
    late = Adapter()
    with install(net.unet):
        net.call(net.latent(1, 1))
        assert [a.processor for a in crosses] == adapters
        crosses[0].set_processor(late)
        net.call(net.latent(1, 1))
    assert [attn.processor for attn in crosses] == [late, *adapters[1:]]
    assert (adapters[0].calls, late.calls) == (1, 1)


def test_a_network_shares_attention_once_at_a_time() -> None:
    net = layout("sd15")
    with install(net.unet) as session:
        with pytest.raises(OperatorError, match="already"), install(net.unet, decoder_only=True):
            pass
        harvest = session.harvest(lambda: net.call(net.latent(1, 1)))
        assert len(harvest.layers) == len(shared_layers(net.unet, decoder_only=False))
    with install(net.unet, decoder_only=True):
        pass


def test_a_call_after_the_processors_were_replaced_is_refused() -> None:
    """Loading an IP-Adapter resets self-attention as well: silence would mean independent frames."""
    net = layout("sd15")
    before = net.unet.attn_processors
    with install(net.unet):
        net.unet.set_attn_processor(AttnProcessor2_0())
        with pytest.raises(OperatorError, match="load adapters before"):
            net.call(net.latent(1, 1))
    assert set(net.unet.attn_processors) == set(before)


def test_what_other_code_put_on_norms_comes_back() -> None:
    net = layout("sd15")
    norm = net.unet.conv_norm_out

    def hooked(x: Tensor) -> Tensor:
        return F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)

    norm.forward = hooked
    with install(net.unet):
        assert norm.forward is not hooked
    assert norm.forward is hooked


def test_blocks_whose_first_attention_is_cross_attention_are_left_alone() -> None:
    with torch.random.fork_rng():
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(32, 32),
            layers_per_block=1,
            cross_attention_dim=8,
            norm_num_groups=8,
            attention_head_dim=8,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            only_cross_attention=(True, False),
        )
    layers = shared_layers(unet, decoder_only=False)
    assert layers
    assert not any(name.startswith(("down_blocks.0", "up_blocks.1")) for name in layers)


def test_an_attention_mask_is_refused_rather_than_ignored() -> None:
    net = layout("sd15")
    z = net.latent(1, 1)
    with install(net.unet), pytest.raises(OperatorError, match="mask"):
        net.unet(
            z, 1, encoder_hidden_states=torch.zeros(1, 7, 32), attention_mask=torch.ones(1, z.shape[2] ** 2)
        )
