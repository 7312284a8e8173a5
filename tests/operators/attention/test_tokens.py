"""Bounded banks: which tokens stay, what they speak for, and that small pictures keep all."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from operators.attention.harvest import Harvest, LayerHarvest
from operators.attention.reading import Reader, Reading, attend
from operators.attention.tokens import TokenChoice, token_grid
from operators.errors import OperatorError

KEY = ("cond", "layer")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 600))
def test_a_choice_stays_in_its_budget_takes_one_token_per_cell_and_speaks_for_all(
    height: int, width: int, budget: int
) -> None:
    chosen = TokenChoice(budget, ("k",)).of("layer", height, width)
    if height * width <= budget:
        assert chosen is None
        return
    assert chosen is not None
    assert len(chosen.index) <= budget
    assert len(set(chosen.index.tolist())) == len(chosen.index)
    assert 0 <= int(chosen.index.min()) <= int(chosen.index.max()) < height * width
    assert float(chosen.log_count.exp().sum()) == pytest.approx(height * width, rel=1e-5)
    # The largest cell is s x s; no two chosen tokens share a cell of the s x s grid.
    side = round(float(chosen.log_count.exp().max()) ** 0.5)
    while -(-height // side) * -(-width // side) != len(chosen.index):
        side += 1
    y, x = chosen.index // width, chosen.index % width
    cells = (y // side) * -(-width // side) + x // side
    assert cells.tolist() == list(range(len(cells)))


def test_the_choice_depends_on_its_key_and_layer_and_on_nothing_else() -> None:
    first = TokenChoice(64, (7, 0)).of("a", 32, 32)
    assert torch.equal(first.index, TokenChoice(64, (7, 0)).of("a", 32, 32).index)
    others = [TokenChoice(64, (7, 1)).of("a", 32, 32), TokenChoice(64, (7, 0)).of("b", 32, 32)]
    assert all(not torch.equal(first.index, other.index) for other in others)


def test_published_sizes_keep_a_quarter_of_the_finest_level_and_all_of_the_next() -> None:
    choice = TokenChoice(1024, ())
    assert len(choice.of("sd15 512", 64, 64).index) == 1024
    assert choice.of("sd15 512, next level", 32, 32) is None
    assert len(choice.of("sd15 768", 96, 96).index) == 1024


def test_a_layers_grid_follows_from_the_latent_with_sides_rounded_up() -> None:
    assert token_grid(64, 64, 1024) == (32, 32)
    assert token_grid(45, 80, 45 * 80) == (45, 80)
    assert token_grid(45, 80, 12 * 20) == (12, 20)
    assert token_grid(9, 5, 3 * 2) == (3, 2)
    with pytest.raises(OperatorError, match="1000 tokens"):
        token_grid(64, 64, 1000)


def test_kept_tokens_estimate_attention_to_all_without_bias() -> None:
    """Numerator and denominator of the softmax, averaged over many choices, are those of all tokens."""
    q, k, v = random(4, 6), random(144, 6, seed=1), random(144, 3, seed=2)
    weights = (q @ k.T / 6**0.5).exp()
    whole = torch.cat([weights @ v, weights.sum(1, keepdim=True)], 1)
    estimates = []
    for number in range(4000):
        chosen = TokenChoice(40, (number,)).of("layer", 12, 12)
        scaled = weights[:, chosen.index] * chosen.log_count.double().exp()
        estimates.append(torch.cat([scaled @ v[chosen.index], scaled.sum(1, keepdim=True)], 1))
    stacked = torch.stack(estimates)
    error = (stacked.mean(0) - whole).abs()
    assert bool((error < 4.5 * stacked.std(0) / len(stacked) ** 0.5).all())


def test_a_reader_of_equal_tokens_reads_the_same_from_a_bounded_bank() -> None:
    """A reference of one colour: whichever tokens stay, they speak for all of it."""
    q, own_k, own_v = (random(2, 2, 16, 8, seed=s) for s in (1, 2, 3))
    token_k, token_v = random(1, 2, 1, 8, seed=4), random(1, 2, 1, 8, seed=5)
    whole = Harvest({KEY: LayerHarvest(token_k.expand(1, 2, 144, 8), token_v.expand(1, 2, 144, 8))})
    chosen = TokenChoice(40, ()).of("layer", 12, 12)
    count = len(chosen.index)
    cut = Harvest(
        {
            KEY: LayerHarvest(
                token_k.expand(1, 2, count, 8), token_v.expand(1, 2, count, 8), chosen.log_count[None]
            )
        }
    )
    rows = torch.tensor([-0.3, -2.0], dtype=torch.float64)
    full, bounded = (
        attend(Reading((Reader(h, bias=0.7, row_bias=rows),)), KEY, q, own_k, own_v) for h in (whole, cut)
    )
    torch.testing.assert_close(bounded, full, atol=1e-6, rtol=1e-6)


def test_rows_of_a_joint_reading_see_themselves_whole_and_the_chosen_tokens_of_the_others() -> None:
    q, k, v = (random(3, 2, 36, 8, seed=s) for s in (1, 2, 3))
    chosen = TokenChoice(9, ()).of("layer", 6, 6)
    found = attend(Reading(joint=True), KEY, q, k, v, chosen)
    for row in range(3):
        others = [other for other in range(3) if other != row]
        keys = torch.cat([k[row], *(k[o][:, chosen.index] for o in others)], 1)
        values = torch.cat([v[row], *(v[o][:, chosen.index] for o in others)], 1)
        bias = torch.cat([torch.zeros(36), *(chosen.log_count for _ in others)]).double()
        weights = (q[row] @ keys.transpose(1, 2) / 8**0.5 + bias).softmax(2)
        torch.testing.assert_close(found[row], weights @ values, atol=1e-6, rtol=1e-6)


def test_references_can_take_the_place_of_the_rows_own_keys() -> None:
    q, k, v = (random(2, 2, 9, 8, seed=s) for s in (1, 2, 3))
    other = LayerHarvest(random(1, 2, 9, 8, seed=4), random(1, 2, 9, 8, seed=5))
    found = attend(Reading((Reader(Harvest({KEY: other})),), own=False), KEY, q, k, v)
    expected = (q @ other.k.transpose(2, 3) / 8**0.5).softmax(3) @ other.v
    torch.testing.assert_close(found, expected)
