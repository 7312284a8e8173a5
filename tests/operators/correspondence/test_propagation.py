"""Propagation of attention outputs: hat weights, the published weights, and the published TokenFlow pass."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from safetensors.torch import load_file

from operators.attention.hat import bracket
from operators.correspondence.cosine import nearest
from operators.correspondence.propagation import propagate, taken
from tests.support.shared import golden, shared_dir
from tests.support.tiny_models import tiny_sd_unet

#: Where PnP replaces queries and keys by those of the source.
INJECTED = ("up_blocks.1.attentions.1", "up_blocks.1.attentions.2", "up_blocks.2", "up_blocks.3")


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tokenflow_weights(frame: int, batch: int, frames_per_batch: int) -> torch.Tensor:
    """The published code's weights of the keyframes of ``batch`` and of the one before it, [2].

    Distances are to the middles of the batches, whatever frame was drawn as keyframe. The first batch has
    one keyframe only: (1, 0).
    """
    if batch == 0:
        return torch.tensor([1.0, 0.0])
    middle = frames_per_batch // 2
    own = abs(frame - (batch * frames_per_batch + middle))
    previous = abs(frame - ((batch - 1) * frames_per_batch + middle))
    own_weight = torch.sigmoid(torch.tensor(previous / (own + previous)))
    return torch.stack([own_weight, 1 - own_weight])


def test_tokens_are_taken_from_their_matches() -> None:
    x = draw(2, 3, 5, 4, seed=1)
    index = torch.tensor([[4, 0], [1, 1], [2, 3]])
    found = taken(x, index)
    assert found.shape == (2, 3, 3, 2, 4)
    assert torch.equal(found[:, :, 1, 0], x[:, :, 1])
    assert torch.equal(taken(x, index[:, 0]), found[..., 0, :])


def test_with_hat_weights_a_keyframe_does_not_show_where_it_is_exchanged() -> None:
    """At a knot the result is that knot's, from both sides; between knots it moves in equal steps."""
    knots, outputs = [0, 4, 8], {n: draw(1, 6, 3, seed=n) for n in (0, 4, 8)}
    straight = torch.arange(6)

    def at(frame: int) -> torch.Tensor:
        b = bracket(frame, knots)
        weights = torch.tensor([b.left_weight, b.right_weight])
        return propagate([outputs[b.left], outputs[b.right]], [straight, straight], weights)

    assert torch.equal(at(4), outputs[4])
    steps = [at(n + 1) - at(n) for n in range(8)]
    for a, b in [*itertools.pairwise(steps[:4]), *itertools.pairwise(steps[4:])]:
        torch.testing.assert_close(a, b)


def test_the_published_weights_jump_where_keyframes_are_exchanged() -> None:
    """Frames 3 and 4 of batches of four: the weight of keyframe 0 falls from 1 to 0.38 in one step."""
    assert tokenflow_weights(3, 0, 4).tolist() == [1.0, 0.0]
    own, previous = tokenflow_weights(4, 1, 4).tolist()
    assert own == pytest.approx(0.6225, abs=1e-4)
    assert previous == pytest.approx(0.3775, abs=1e-4)
    assert tokenflow_weights(6, 1, 4)[0] == pytest.approx(0.7311, abs=1e-4)


@dataclass
class TokenFlowPass:
    """What the published pass keeps between its two kinds of network call, per layer."""

    injected: bool
    pivotal: bool = True
    batch: int = 0
    frames: int = 2
    tokens: dict[str, torch.Tensor] = field(default_factory=dict)
    outputs: dict[str, torch.Tensor] = field(default_factory=dict)


class TokenFlowProcessor:
    """The published self-attention, written with our kernels. Rows are [source, uncond, cond] x frames."""

    def __init__(self, layer: str, run: TokenFlowPass) -> None:
        self.layer, self.run = layer, run
        self.injected = run.injected and layer.startswith(INJECTED)

    def __call__(self, attn: Attention, hidden_states: torch.Tensor, **_: Any) -> torch.Tensor:
        tokens = hidden_states.unflatten(0, (3, self.run.frames))
        if self.run.pivotal:
            self.run.tokens[self.layer] = tokens[0]
            self.run.outputs[self.layer] = self.extended(attn, tokens)
            return self.run.outputs[self.layer].flatten(0, 1)
        return self.propagated(tokens[0]).flatten(0, 1)

    def extended(self, attn: Attention, tokens: torch.Tensor) -> torch.Tensor:
        q, k, v = attn.to_q(tokens), attn.to_k(tokens), attn.to_v(tokens)
        if self.injected:
            q, k = q[:1].expand_as(q), k[:1].expand_as(k)
        heads = [x.unflatten(-1, (attn.heads, -1)).transpose(2, 3) for x in (q, k, v)]
        out = []
        for row, (q, k, v) in enumerate(zip(*heads, strict=True)):
            if row > 0:  # All keyframes see each other.
                k, v = (x.transpose(0, 1).flatten(1, 2)[None].expand(len(q), -1, -1, -1) for x in (k, v))
            out.append(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return attn.to_out[0](torch.stack(out))

    def propagated(self, source: torch.Tensor) -> torch.Tensor:
        pivots = [self.run.batch] + ([self.run.batch - 1] if self.run.batch else [])
        rows = []
        for at, frame in enumerate(source):
            fields = [nearest(frame, self.run.tokens[self.layer][p]).index[:, 0] for p in pivots]
            outputs = [self.run.outputs[self.layer][:, p] for p in pivots]
            number = self.run.batch * self.run.frames + at
            weights = tokenflow_weights(number, self.run.batch, self.run.frames)[: len(pivots)]
            rows.append(propagate(outputs, fields, weights))
        return torch.stack(rows, 1)


def inject_source(module: Any, _: Any, output: torch.Tensor) -> torch.Tensor:
    """PnP: the residual block's branch of the source, for all three rows of each frame."""
    return output.unflatten(0, (3, -1))[:1].expand(3, *[-1] * 4).flatten(0, 1)


@torch.no_grad()
def test_the_published_tokenflow_pass_is_reproduced() -> None:
    """omerbt/TokenFlow on SD1.5's layout: keyframes jointly, then two batches of four frames."""
    tensors, facts = golden("tokenflow_t981")
    unet: UNet2DConditionModel = tiny_sd_unet().eval()
    unet.load_state_dict(load_file(shared_dir() / "golden" / "tiny_sd15_state.safetensors"))
    run = TokenFlowPass(facts["pnp_injected"])
    names = unet.attn_processors
    unet.set_attn_processor(
        {
            name: TokenFlowProcessor(name, run) if name.endswith("attn1.processor") else kept
            for name, kept in names.items()
        }
    )
    if run.injected:
        unet.up_blocks[1].resnets[1].conv2.register_forward_hook(inject_source)

    def call(frames: torch.Tensor) -> torch.Tensor:
        run.frames = len(frames)
        x = torch.cat([tensors["src"][frames], tensors["x"][frames], tensors["x"][frames]])
        context = tensors["ctx"].repeat_interleave(len(frames), 0)
        return unet(x, facts["t"], encoder_hidden_states=context).sample

    pivotal = call(tensors["pivots"])
    assert (pivotal - tensors["pivotal_out"]).abs().max() < 1e-4
    run.pivotal = False
    for batch in range(len(tensors["out"])):
        run.batch = batch
        found = call(torch.arange(batch * facts["batch"], (batch + 1) * facts["batch"]))
        assert (found - tensors["out"][batch]).abs().max() < 1e-4
