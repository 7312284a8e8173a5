"""Attention in pairs: the taught match, and that training computes what jobs compute."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from operators.attention.install import install, shared_layers
from operators.attention.reading import Reader
from operators.training.networks import wake_attention
from operators.training.pairing import PairedAttention, match_target, pair_attention
from tests.support.tiny_models import tiny_sd_unet

TOKENS = torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(5))
FRAME_T, REFERENCE_T = (500, 321), (5, 200)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(3)
    unet = tiny_sd_unet().eval().requires_grad_(False)
    # Awake attention tells references apart, so that a mixed-up row would show.
    wake_attention(unet)
    return unet


def call(unet: UNet2DConditionModel, z: Tensor, t: tuple[int, ...]) -> Tensor:
    tokens = TOKENS.expand(len(z), -1, -1)
    return unet(z, torch.tensor(t), encoder_hidden_states=tokens).sample


# match_target


@pytest.mark.parametrize("tokens", [3, 8])
def test_without_displacement_each_token_matches_itself(tokens: int) -> None:
    target = match_target(torch.zeros(2, 2, dtype=torch.int64), tokens, 8 * tokens)
    assert torch.equal(target, torch.eye(tokens**2).expand(2, -1, -1))


def test_a_displacement_of_whole_tokens_is_an_exact_shift() -> None:
    tokens, stride = 5, 8
    down, right = 2, -1
    (target,) = match_target(torch.tensor([[down * stride, right * stride]]), tokens, tokens * stride)
    grid = target.view(tokens, tokens, tokens, tokens)
    for y in range(tokens):
        for x in range(tokens):
            expected = torch.zeros(tokens, tokens)
            if 0 <= y + down < tokens and 0 <= x + right < tokens:
                expected[y + down, x + right] = 1.0
            assert torch.equal(grid[y, x], expected)


def test_between_tokens_the_weights_are_bilinear() -> None:
    (target,) = match_target(torch.tensor([[2, 6]]), 4, 32)
    grid = target.view(4, 4, 4, 4)
    expected = torch.zeros(4, 4)
    # 2 and 6 pixels of 8: a quarter down, three quarters to the right.
    expected[1:3, 0:2] = torch.tensor([[0.75], [0.25]]) * torch.tensor([[0.25, 0.75]])
    torch.testing.assert_close(grid[1, 0], expected)


def test_rows_sum_to_one_inside_the_reference_and_to_zero_outside() -> None:
    tokens, side = 6, 96
    stride = side / tokens
    generator = torch.Generator().manual_seed(1)
    displacement = torch.randint(-side, side + 1, (40, 2), generator=generator)
    sums = match_target(displacement, tokens, side).sum(2).view(40, tokens, tokens)
    at = torch.arange(tokens)[None] + displacement[:, :, None] / stride
    inside = (at >= 0) & (at <= tokens - 1)
    expected = (inside[:, 0, :, None] & inside[:, 1, None, :]).float()
    torch.testing.assert_close(sums, expected)
    assert 0 < float(expected.mean()) < 1


# The match loss


def attend(state: PairedAttention, q: Tensor, k: Tensor) -> Tensor:
    state.reading = frozenset({"layer"})
    state.picture_side = 16
    state.match = torch.zeros(len(q) // 2, 2, dtype=torch.int64)
    return state.attend("layer", q, k, k)


def test_the_match_loss_of_indifferent_attention_is_the_entropy_of_all_keys() -> None:
    state, zeros = PairedAttention(), torch.zeros(4, 2, 9, 8)
    attend(state, zeros, zeros)
    (loss,) = state.match_losses
    # Nine keys of its own, nine of the reference.
    assert float(loss) == pytest.approx(math.log(18))


def test_the_match_loss_falls_to_the_choice_between_frame_and_reference() -> None:
    """Where frame and reference are equal, a token cannot tell its two copies apart: ln 2."""
    state = PairedAttention()
    sharp = 100 * torch.eye(9)[None, None].expand(4, 2, -1, -1)
    attend(state, sharp, sharp)
    assert float(state.match_losses[0]) == pytest.approx(math.log(2))


def test_one_head_is_not_taught_and_a_single_head_is() -> None:
    for heads, taught in ((1, 1), (2, 1), (4, 3)):
        state = PairedAttention()
        q = normal(4, heads, 9, 8).requires_grad_(True)
        attend(state, q, normal(4, heads, 9, 8, seed=1))
        (gradient,) = torch.autograd.grad(state.match_losses[0], q)
        moved = gradient.abs().amax((0, 2, 3)) > 0
        assert moved.tolist() == [True] * taught + [False] * (heads - taught)
        assert not gradient[2:].any(), "references are not taught"


def test_a_view_beside_its_reference_teaches_nothing() -> None:
    state = PairedAttention(16, frozenset({"layer"}), torch.tensor([[40, 0], [0, -40]]))
    state.attend("layer", normal(4, 2, 9, 8), normal(4, 2, 9, 8, seed=1), normal(4, 2, 9, 8))
    assert float(state.match_losses[0]) == 0.0


# The equivalence with jobs


@torch.no_grad()
@pytest.mark.parametrize("decoder_only", [False, True], ids=["all layers", "decoder only"])
def test_training_computes_what_jobs_compute(unet: UNet2DConditionModel, decoder_only: bool) -> None:
    frames, references = normal(2, 4, 16, 16, seed=1), normal(2, 4, 16, 16, seed=2)
    with pair_attention(unet) as state:
        state.reading = frozenset(shared_layers(unet, decoder_only=decoder_only))
        paired = call(unet, torch.cat([frames, references]), FRAME_T + REFERENCE_T)

    alone = []
    with install(unet, decoder_only=decoder_only) as session:
        for row in range(2):
            frame, reference = frames[row : row + 1], references[row : row + 1]
            t, shown = FRAME_T[row : row + 1], REFERENCE_T[row : row + 1]
            harvest = session.harvest(lambda z=reference, t=shown: call(unet, z, t))
            with session.reading([Reader(harvest)]):
                read = call(unet, frame, t)
            alone.append(call(unet, frame, t))
            torch.testing.assert_close(paired[row : row + 1], read, atol=2e-5, rtol=1e-4)
            torch.testing.assert_close(paired[2 + row : 3 + row], call(unet, reference, shown))
    # The reference made a difference far above the tolerance.
    assert float((paired[:2] - torch.cat(alone)).abs().amax((1, 2, 3)).min()) > 1e-3


@torch.no_grad()
def test_without_layers_that_read_the_network_is_unchanged(unet: UNet2DConditionModel) -> None:
    z = normal(4, 4, 16, 16, seed=1)
    plain = call(unet, z, FRAME_T + REFERENCE_T)
    with pair_attention(unet) as state:
        state.match = torch.zeros(2, 2, dtype=torch.int64)
        torch.testing.assert_close(call(unet, z, FRAME_T + REFERENCE_T), plain, atol=1e-5, rtol=1e-5)
        assert state.match_losses == []


@torch.no_grad()
def test_the_match_is_taught_once_per_reading_layer(unet: UNet2DConditionModel) -> None:
    for decoder_only in (False, True):
        layers = shared_layers(unet, decoder_only=decoder_only)
        with pair_attention(unet) as state:
            state.reading, state.picture_side = frozenset(layers), 128
            state.match = torch.zeros(2, 2, dtype=torch.int64)
            call(unet, normal(4, 4, 16, 16, seed=1), FRAME_T + REFERENCE_T)
        assert len(state.match_losses) == len(layers) > 0


def test_the_processors_come_back_even_after_an_error(unet: UNet2DConditionModel) -> None:
    before = unet.attn_processors

    def break_inside() -> None:
        with pair_attention(unet):
            assert unet.attn_processors != before
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        break_inside()
    assert unet.attn_processors == before
