from __future__ import annotations

import torch

from operators.attention.harvest import Harvest, LayerHarvest
from operators.attention.reading import Reader, Reading, attend

KEY = ("cond", "layer")


def bank(k: torch.Tensor, v: torch.Tensor) -> Harvest:
    return Harvest(layers={KEY: LayerHarvest(k, v)})


def heads(seed: int, rows: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(rows, 2, 5, 8, generator=draw) for _ in range(3))
    return q, k, v


def test_own_keys_that_count_twice_are_own_keys_beside_a_reference_equal_to_them() -> None:
    q, k, v = heads(0)
    _, other_k, other_v = heads(1)
    other = Reader(bank(other_k, other_v))
    twice = attend(Reading((other,), own_weight=2), KEY, q, k, v)
    copied = attend(Reading((other, Reader(bank(k, v)))), KEY, q, k, v)
    once = attend(Reading((other,)), KEY, q, k, v)
    torch.testing.assert_close(twice, copied, rtol=0, atol=1e-5)
    assert (twice - once).abs().max() > 0.05


def test_rows_that_read_each_other_count_themselves_as_often_as_asked() -> None:
    q, k, v = heads(2, rows=3)
    joint = attend(Reading(joint=True, own_weight=3), KEY, q, k, v)
    for row in range(3):
        alone = (x[row : row + 1] for x in (q, k, v))
        others = [Reader(bank(k[n : n + 1], v[n : n + 1])) for n in range(3)]
        again = Reader(bank(k[row : row + 1], v[row : row + 1]))
        copied = attend(Reading((*others, again)), KEY, *alone)
        torch.testing.assert_close(joint[row : row + 1], copied, rtol=0, atol=1e-5)
