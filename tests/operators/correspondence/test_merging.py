"""Merging with given destinations: the published vectors, and what must hold for any tokens."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.correspondence.cosine import unit_tokens
from operators.correspondence.merging import Merging, merging, restored
from tests.support.shared import golden


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def aligned_merging(sources: torch.Tensor, destinations: torch.Tensor, ratio: float) -> Merging:
    """VidToMe's ``align_batch``: one merging for all rows, the best row of each source deciding."""
    scores = unit_tokens(sources) @ unit_tokens(destinations).transpose(1, 2)
    similarity, index = torch.cat([*scores], dim=1).max(1)
    return merging(similarity, index % destinations.shape[1], ratio)


def merged(sources: torch.Tensor, destinations: torch.Tensor, how: Merging) -> torch.Tensor:
    """The sources that stay, then the destinations."""
    return torch.cat([sources.index_select(-2, how.kept), destinations], -2)


def unmerged(x: torch.Tensor, how: Merging) -> tuple[torch.Tensor, torch.Tensor]:
    """Sources and destinations from what became of the tokens of `merged`."""
    kept, destinations = x.split([len(how.kept), x.shape[-2] - len(how.kept)], -2)
    return restored(kept, destinations.index_select(-2, how.destination), how), destinations


def test_the_published_vectors_are_reproduced_exactly() -> None:
    """lixirui142/VidToMe: 4 frames of 64 tokens, one of them (its draw: the fourth) the destination."""
    tensors, facts = golden("vidtome_local")
    x, frames = tensors["x"], facts["F"]
    target = int(torch.randint(0, frames, (1,), generator=torch.Generator().manual_seed(facts["gen_seed"])))
    by_frame = x.unflatten(1, (frames, -1))
    others = [n for n in range(frames) if n != target]
    sources, destinations = by_frame[:, others].flatten(1, 2), by_frame[:, target]

    how = aligned_merging(sources, destinations, facts["ratio"])
    short = merged(sources, destinations, how)
    assert len(how.kept) == facts["unm"]
    assert torch.equal(short, tensors["merged"])

    back, same = unmerged(short, how)
    out = torch.empty_like(by_frame)
    out[:, others], out[:, target] = back.unflatten(1, (len(others), -1)), same
    assert torch.equal(out.flatten(1, 2), tensors["out"])


@given(seed=st.integers(0, 1000), ratio=st.floats(0, 1), sources=st.integers(1, 30))
@settings(max_examples=40)
def test_every_source_is_kept_or_dropped_once_and_the_most_similar_are_dropped(
    seed: int, ratio: float, sources: int
) -> None:
    similarity = draw(sources, seed=seed)
    how = merging(similarity, torch.zeros(sources, dtype=torch.int64), ratio)
    assert sorted([*how.kept.tolist(), *how.dropped.tolist()]) == list(range(sources))
    assert len(how.dropped) == int(sources * ratio)
    if len(how.dropped) and len(how.kept):
        assert similarity[how.dropped].min() >= similarity[how.kept].max()


def test_merging_nothing_is_the_identity() -> None:
    sources, destinations = draw(2, 6, 4, seed=1), draw(2, 3, 4, seed=2)
    how = aligned_merging(sources, destinations, 0.0)
    back, same = unmerged(merged(sources, destinations, how), how)
    assert torch.equal(back, sources)
    assert torch.equal(same, destinations)


def test_merging_all_gives_every_source_its_destination() -> None:
    destinations = draw(1, 5, 4, seed=2)
    order = torch.tensor([4, 0, 0, 2, 3, 1, 1])
    sources = destinations[:, order] * 2
    how = aligned_merging(sources, destinations, 1.0)
    assert merged(sources, destinations, how).shape[1] == 5
    back, _ = unmerged(destinations, how)
    assert torch.equal(back, destinations[:, order])


def test_restoring_puts_every_output_where_its_token_was() -> None:
    how = merging(torch.tensor([0.1, 0.9, 0.5, 0.8]), torch.tensor([0, 1, 0, 1]), 0.5)
    outputs = torch.arange(4.0)[:, None]
    assert torch.equal(restored(outputs[how.kept], outputs[how.dropped], how), outputs)
