"""Published numbers of style methods that act on attention, through the bank that jobs use.

Every test takes shapes, layers and hyper-parameters from its file.
"""

from __future__ import annotations

import re

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor, nn

from operators.attention.adain import adain, moments
from operators.attention.depth import appearance_layers, structure_layers
from operators.attention.harvest import Keep
from operators.attention.injection import Injection
from operators.attention.install import install
from operators.attention.layer_call import LayerCall
from operators.attention.session import SharedAttention
from operators.style.aggregation import KeysValues, aggregated, mean_token, released_combinations
from operators.style.readings import ReplaceThenConcat, SharedWithStyle, StyleInPlace
from operators.style.univst import AttentionShift
from tests.support.shared import golden, shared_dir
from tests.support.tiny_models import tiny_sd_unet, tiny_sdxl_unet

QUERIES = Keep(moments=False, norms=False, queries=True)


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    unet = tiny_sd_unet().eval().requires_grad_(False)
    unet.load_state_dict(load_file(shared_dir() / "golden" / "tiny_sd15_state.safetensors"))
    return unet


def test_adain_reproduces_the_published_function() -> None:
    tensors, _ = golden("style_aligned_adain_fn")
    x, half = tensors["x"], len(tensors["x"]) // 2
    for number, row in enumerate(x):
        reference = x[number // half * half]
        found = adain(row[None], moments(row[None]), moments(reference[None]))
        assert (found[0] - tensors["out"][number]).abs().max() < 1e-6


@torch.no_grad()
def test_style_aligned_reproduces_the_published_implementation() -> None:
    """google/style-aligned on SDXL's layout: attention, AdaIN and GroupNorm shared. Ours: the reference
    alone, then each target alone, reading what it left."""
    tensors, facts = golden("style_aligned_shift0")
    unet = tiny_sdxl_unet().eval()
    unet.load_state_dict(load_file(shared_dir() / "golden" / "tiny_sdxl_state.safetensors"))
    x, rows = tensors["x"], len(tensors["x"])
    with install(unet) as session:
        for half in range(len(tensors["ctx"]) // rows):

            def row(number: int, half: int = half) -> Tensor:
                at = half * rows + number
                added = {
                    "text_embeds": tensors["text_embeds"][at : at + 1],
                    "time_ids": torch.zeros(1, 6),
                }
                return unet(
                    x[number : number + 1],
                    facts["t"],
                    encoder_hidden_states=tensors["ctx"][at : at + 1],
                    added_cond_kwargs=added,
                ).sample

            found: list[Tensor] = []
            style = session.harvest(lambda row=row, found=found: found.append(row(0)))
            method = SharedWithStyle(facts.get("shift", 0.0), norms=True)
            with session.under(method.reading(style, facts["t"])):
                found += [row(number) for number in range(1, rows)]
            out = tensors["out"][half * rows : (half + 1) * rows]
            assert (torch.cat(found) - out).abs().max() < 2e-5


@torch.no_grad()
def test_rival_reproduces_the_published_early_phase(unet: UNet2DConditionModel) -> None:
    """dvlab-research/RIVAL: keys and values of the reference in place of the generated row's own."""
    tensors, facts = golden("rival_attn_replace")
    x, rows = tensors["x"], len(tensors["x"])
    with install(unet) as session:
        for half in range(len(tensors["ctx"]) // rows):

            def row(number: int, half: int = half) -> Tensor:
                at = half * rows + number
                return unet(
                    x[number : number + 1], facts["t"], encoder_hidden_states=tensors["ctx"][at : at + 1]
                ).sample

            style = session.harvest(lambda row=row: row(0))
            found = [row(0)]
            # The published counter stands at 1000 - 20, above its 600, whatever t the network is told.
            with session.under(ReplaceThenConcat().reading(style, 980)):
                found += [row(number) for number in range(1, rows)]
            out = tensors["out"][half * rows : (half + 1) * rows]
            assert (torch.cat(found) - out).abs().max() < 1e-5


@torch.no_grad()
def test_univst_reproduces_the_published_attention_shift(unet: UNet2DConditionModel) -> None:
    """QuanjianSong/UniVST as released, its odd normalisation included."""
    tensors, facts = golden("univst_step00")
    content, style, edit = tensors["x"].chunk(3)

    def call(x: Tensor) -> Tensor:
        tokens = tensors["ctx"].expand(len(x), -1, -1)
        return unet(x, facts["t"], encoder_hidden_states=tokens).sample

    found = []
    with install(unet) as session:
        of_content = session.harvest(lambda: found.append(call(content)), keep=QUERIES)
        of_style = session.harvest(lambda: found.append(call(style)), keep=QUERIES)
        shift = AttentionShift(structure_layers(unet))
        with session.under(shift.reading(of_content, of_style, facts["step"])):
            found.append(call(edit))
    assert (torch.cat(found) - tensors["out"]).abs().max() < 1e-5


@torch.no_grad()
def test_styleid_reproduces_the_published_attention(unet: UNet2DConditionModel) -> None:
    """jiwoogit/StyleID: one layer, fed with recorded tokens."""
    tensors, facts = golden("styleid_attn")
    name = f"{facts['layer']}.processor"
    attn = unet.get_submodule(facts["layer"])
    session = SharedAttention()

    def layer(tokens: Tensor) -> Tensor:
        return session.output(LayerCall(name, attn, tokens))

    content = session.harvest(lambda: layer(tensors["h_content"]), keep=QUERIES)
    style = session.harvest(lambda: layer(tensors["h_style"]))
    reading = StyleInPlace(frozenset([name]), sharpness=facts["tau"]).reading(style, 500)
    injection = Injection(content, frozenset([name]), queries=facts["gamma"])
    with session.under(reading), session.injecting(injection):
        found = layer(tensors["h_cs"])
    assert (found - tensors["out"]).abs().max() < 1e-6
    assert name in appearance_layers(unet)


@torch.no_grad()
def test_attention_feature_aggregation_reproduces_the_released_layer() -> None:
    """google/RB-Modulation: text, pooled text and style tokens, the picture's own in front of each."""
    tensors, facts = golden("rbm_afa_style")
    # The layout names how many tokens are of which kind and how many heads there are.
    count = {kind: int(number) for kind, number in re.findall(r"(\w+) (\d+)", facts["layout"])}
    counts, heads = [count[kind] for kind in ("text", "pooled", "style")], count["heads"]
    x = tensors["x"]
    attention = nn.MultiheadAttention(x.shape[1], heads, batch_first=True)
    prefix = "state/attn."
    attention.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    of_q, of_k, of_v = (
        lambda tokens, w=w, b=b: (tokens @ w.T + b).unflatten(2, (heads, -1)).transpose(1, 2)
        for w, b in zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
    )
    own = x.flatten(2).transpose(1, 2)
    text, pooled, style = tensors["kv"].split(counts, 1)
    kinds = [KeysValues(of_k(part), of_v(part)) for part in (own, text, pooled, mean_token(style))]
    out = aggregated(of_q(own), released_combinations(*kinds))
    out = attention.out_proj(out.transpose(1, 2).flatten(2))
    assert (out.transpose(1, 2).view_as(x) - tensors["out"]).abs().max() < 1e-6
