"""Gathered attention against dense attention over everything with a mask."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from operators.correspondence import gathered
from operators.correspondence.gathered import gathered_attention
from operators.correspondence.propagation import taken

B, HEADS, L, N, D, K = 2, 3, 10, 14, 8, 4


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def parts() -> dict[str, torch.Tensor]:
    index = torch.stack([torch.randperm(N, generator=torch.Generator().manual_seed(n))[:K] for n in range(L)])
    return {
        "q": draw(B, HEADS, L, D, seed=1),
        "k": draw(B, HEADS, L, D, seed=2),
        "v": draw(B, HEADS, L, D, seed=3),
        "reference_k": draw(1, HEADS, N, D, seed=4).expand(B, -1, -1, -1),
        "reference_v": draw(1, HEADS, N, D, seed=5).expand(B, -1, -1, -1),
        "index": index,
        "bias": draw(L, seed=6),
        "own_bias": draw(B, K, seed=7),
    }


def attended(p: dict[str, torch.Tensor]) -> torch.Tensor:
    return gathered_attention(
        p["q"],
        p["k"],
        p["v"],
        p["bias"],
        taken(p["reference_k"], p["index"]),
        taken(p["reference_v"], p["index"]),
        p["own_bias"],
    )


def test_it_is_dense_attention_masked_to_the_matches(parts: dict[str, torch.Tensor]) -> None:
    mask = torch.full((B, L, N), -torch.inf, dtype=torch.float64)
    mask.scatter_(2, parts["index"].expand(B, -1, -1), parts["own_bias"][:, None].expand(-1, L, -1))
    mask = torch.cat([parts["bias"].expand(B, L, -1), mask], 2)
    expected = F.scaled_dot_product_attention(
        parts["q"],
        torch.cat([parts["k"], parts["reference_k"]], 2),
        torch.cat([parts["v"], parts["reference_v"]], 2),
        attn_mask=mask[:, None],
        scale=1 / math.sqrt(D),
    )
    # Logits are float32.
    torch.testing.assert_close(attended(parts), expected, atol=1e-6, rtol=1e-5)


def test_blocks_do_not_change_the_result(
    parts: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = attended(parts)
    monkeypatch.setattr(gathered, "BLOCK", 3)
    torch.testing.assert_close(attended(parts), whole)


def test_matches_without_weight_have_no_effect(parts: dict[str, torch.Tensor]) -> None:
    parts["own_bias"] = torch.full((B, K), -30.0, dtype=torch.float64)
    parts["bias"] = torch.zeros(L, dtype=torch.float64)
    expected = F.scaled_dot_product_attention(parts["q"], parts["k"], parts["v"])
    torch.testing.assert_close(attended(parts), expected, atol=1e-6, rtol=1e-5)


def test_gradients_reach_the_queries(parts: dict[str, torch.Tensor]) -> None:
    parts["q"].requires_grad_(True)
    attended(parts).square().sum().backward()
    assert parts["q"].grad is not None
    assert parts["q"].grad.abs().min(dim=-1).values.max() > 0
