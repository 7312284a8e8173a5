"""Merging the anchors' bank: exact for copies, mass kept, no order among the merged."""

from __future__ import annotations

import pytest
import torch

from operators.attention.merging import merge_into_first


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float()


def read(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, log_count: torch.Tensor) -> torch.Tensor:
    """Attention of [heads, L, d] over rows [A, heads, N, d] side by side, in float64."""
    keys, values = (x.double().transpose(0, 1).flatten(1, 2) for x in (k, v))
    logits = q.double() @ keys.transpose(1, 2) / q.shape[2] ** 0.5 + log_count.double().flatten()
    return logits.softmax(2) @ values


def test_anchors_that_are_copies_merge_without_a_trace() -> None:
    k, v = (random(1, 2, 12, 8, seed=s).expand(3, -1, -1, -1).clone() for s in (1, 2))
    counts = torch.full((3, 12), 4.0).log()
    q = random(2, 5, 8, seed=3)
    merged = merge_into_first(k, v, counts, 1.0)
    assert merged[0].shape == (1, 2, 12, 8)
    torch.testing.assert_close(read(q, *merged), read(q, k, v, counts), atol=1e-5, rtol=1e-5)


def test_half_of_the_others_tokens_go_the_best_matches_first_and_all_mass_stays() -> None:
    k, v = random(3, 2, 10, 8, seed=1), random(3, 2, 10, 8, seed=2)
    # Four tokens of the others are nearly tokens of the first: they must be among the merged.
    k[1, :, :2] = 1.01 * k[0, :, 3:5]
    k[2, :, 7:9] = 0.99 * k[0, :, 8:]
    counts = torch.full((3, 10), 9.0).log()
    merged_k, merged_v, merged_counts = merge_into_first(k, v, counts, 0.5)
    assert merged_k.shape == merged_v.shape == (1, 2, 20, 8)
    assert float(merged_counts.exp().sum()) == pytest.approx(270)
    apart = merged_k[0, :, 10:].transpose(0, 1)
    for row, token in ((1, 0), (1, 1), (2, 7), (2, 8)):
        assert not (apart == k[row, :, token]).flatten(1).all(1).any()
    # Value sums weighted by counts are kept too: merging averages, it does not drop.
    total = (merged_v[0] * merged_counts.exp()[0, None, :, None]).sum(1)
    torch.testing.assert_close(total, 9.0 * v.sum((0, 2)), atol=1e-3, rtol=1e-4)


def test_ratio_nothing_leaves_all_tokens_in_their_order() -> None:
    k, v, counts = random(3, 2, 6, 4, seed=1), random(3, 2, 6, 4, seed=2), torch.zeros(3, 6)
    merged_k, merged_v, merged_counts = merge_into_first(k, v, counts, 0.0)
    assert torch.equal(merged_k[0], k.transpose(0, 1).flatten(1, 2))
    assert torch.equal(merged_v[0], v.transpose(0, 1).flatten(1, 2))
    assert torch.equal(merged_counts, torch.zeros(1, 18))


def test_what_is_merged_does_not_depend_on_the_order_of_the_other_anchors() -> None:
    k, v = random(4, 2, 9, 8, seed=1), random(4, 2, 9, 8, seed=2)
    counts, q = torch.zeros(4, 9), random(2, 5, 8, seed=3)
    order = [0, 3, 1, 2]
    one = read(q, *merge_into_first(k, v, counts, 0.5))
    two = read(q, *merge_into_first(k[order], v[order], counts, 0.5))
    torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-6)


def test_tokens_of_half_precision_come_back_in_it() -> None:
    k, v = (random(2, 2, 6, 4, seed=s).to(torch.bfloat16) for s in (1, 2))
    merged_k, merged_v, _ = merge_into_first(k, v, torch.zeros(2, 6), 0.5)
    assert merged_k.dtype == merged_v.dtype == torch.bfloat16
