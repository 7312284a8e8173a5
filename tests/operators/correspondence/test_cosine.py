"""Nearest-neighbour fields: exact on permutations, blind to length, ties to the lowest index."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.correspondence import cosine
from operators.correspondence.cosine import nearest


def tokens(rows: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 40))
@settings(max_examples=25)
def test_shuffled_and_scaled_tokens_are_found_again(seed: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    targets = tokens(rows, seed)
    order = torch.randperm(rows, generator=generator)
    scale = 0.1 + torch.rand(rows, 1, generator=generator)
    found = nearest(targets[order] * scale, targets)
    assert torch.equal(found.index[:, 0], order)
    torch.testing.assert_close(found.similarity[:, 0], torch.ones(rows))


def test_ties_go_to_the_lowest_index() -> None:
    same = torch.ones(5, 3)
    assert nearest(same, same).index.tolist() == [[0]] * 5


def test_a_zero_token_resembles_nothing() -> None:
    found = nearest(torch.zeros(1, 8), tokens(4, 1))
    assert found.similarity.tolist() == [[0.0]]


def test_more_tokens_than_a_block_give_what_one_product_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, targets = tokens(70, 1), tokens(50, 2)
    whole = nearest(queries, targets)
    monkeypatch.setattr(cosine, "BLOCK", 32)
    assert torch.equal(nearest(queries, targets).index, whole.index)
