"""Biases in extra head channels are the same attention as with a mask."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from operators.attention.bias import FLOOR, biased_attention, log_weight


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_channels_equal_an_additive_mask_for_head_sizes_of_stock_models() -> None:
    for d in (8, 32, 40, 64):
        q, k, v = random(3, 2, 17, d), random(3, 2, 29, d), random(3, 2, 29, d) + 1
        query_channels = torch.tensor([[1.0, -0.3, -2.0], [1.0, 0.0, FLOOR], [1.0, -1.2, 0.0]])
        key_channels = torch.zeros(29, 3)
        key_channels[9:14, 0], key_channels[14:20, 1], key_channels[20:, 2] = 0.69, 1.0, 1.0
        mask = (query_channels @ key_channels.T)[:, None, None, :]
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        found = biased_attention(q, k, v, query_channels, key_channels)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_one_row_takes_one_channel_and_is_the_same_attention() -> None:
    q, k, v = random(1, 2, 17, 40), random(1, 2, 29, 40), random(1, 2, 29, 40) + 1
    query_channels = torch.tensor([[1.0, -0.3, -2.0]])
    key_channels = torch.zeros(29, 3)
    key_channels[9:14, 0], key_channels[14:20, 1], key_channels[20:, 2] = 0.69, 1.0, 1.0
    mask = (query_channels @ key_channels.T)[:, None, None, :]
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    found = biased_attention(q, k, v, query_channels, key_channels)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_reference_of_weight_zero_leaves_no_trace() -> None:
    q, k, v = random(1, 2, 6, 8), random(1, 2, 12, 8), random(1, 2, 12, 8)
    channels = torch.tensor([[1.0, log_weight(torch.tensor(0.0)).item()]])
    key_channels = torch.zeros(12, 2)
    key_channels[6:, 1] = 1.0
    found = biased_attention(q, k, v, channels, key_channels)
    torch.testing.assert_close(found, F.scaled_dot_product_attention(q, k[:, :, :6], v[:, :, :6]))


def test_log_weight_is_finite_at_zero_and_exact_elsewhere() -> None:
    assert log_weight(torch.tensor([0.0, 1.0, 0.5])).tolist() == [FLOOR, 0.0, torch.tensor(0.5).log().item()]
