"""Slices under a memory budget, and recomputing where not even one frame fits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from operators.degradations.registry import build_operator
from operators.degradations.temporal import TemporalBlur, uniform_temporal_kernel
from operators.models import BoundPrior, LatentModel
from operators.noise import keyed_normal
from operators.solvers import recipes_gradient
from operators.solvers.base import begin
from operators.solvers.evaluations import CountingPrior
from operators.solvers.gradient_memory import activation_bytes, rows_within
from operators.solvers.registry import build_solver

SIDE = 32
HALVED = build_operator({"kind": "super_resolution", "scale": 2}, SIDE, SIDE, {})


@pytest.fixture
def embedded() -> BoundPrior:
    torch.set_num_threads(1)
    return BoundPrior(LatentModel.from_pretrained("embedded"))


def test_as_many_rows_as_the_budget_holds_and_never_none(embedded: BoundPrior) -> None:
    one = activation_bytes(embedded, HALVED)
    # At least the decoder's picture, and less than a thousand of them.
    assert 12 * SIDE**2 < one < 12_000 * SIDE**2
    assert rows_within(embedded, HALVED, 3 * one + 1) == 3
    assert rows_within(embedded, HALVED, one) == 1


def test_where_not_even_one_row_fits_the_prior_recomputes_and_one_row_is_taken(embedded: BoundPrior) -> None:
    plain = activation_bytes(embedded, HALVED)
    assert rows_within(embedded, HALVED, 1000) == 1
    assert activation_bytes(embedded, HALVED) < 0.6 * plain


def test_a_prior_that_cannot_recompute_is_sliced_to_single_rows() -> None:
    assert rows_within(IdentityPrior(), HALVED, 1) == 1


class IdentityPrior:
    """Encodes by a square that autograd must keep something of."""

    alphas_cumprod = torch.linspace(0.99, 0.01, 10)

    def encode(self, x: Tensor) -> Tensor:
        return x.square()

    def decode(self, z: Tensor) -> Tensor:
        return z.square()


def test_a_solver_under_a_small_budget_decodes_slices_and_gets_the_same_latents(
    embedded: BoundPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    y, noise = torch.zeros(3, 3, SIDE // 2, SIDE // 2), keyed_normal((3, 12, SIDE // 4, SIDE // 4), "z")
    one = activation_bytes(embedded, HALVED)
    found, decoded = [], []
    for budget in (10 * one, 2 * one + 1, 1000):
        monkeypatch.setattr(
            recipes_gradient, "rows_within", lambda prior, operator, b=budget: rows_within(prior, operator, b)
        )
        solver = build_solver({"name": "ldps", "steps": 10, "strength": 0.3}, HALVED, 0.05, embedded)
        largest = LargestDecode(embedded)
        with torch.no_grad():
            state = begin(solver, y, noise, largest)
            largest.rows = 0
            found.append(solver.step(0, state, largest).z)
        decoded.append(largest.rows)
    assert decoded == [3, 2, 1]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-4, atol=1e-5)


class LargestDecode(CountingPrior):
    """Remembers the most rows decoded in one call."""

    rows = 0

    def decode(self, z: Tensor) -> Tensor:
        self.rows = max(self.rows, len(z))
        return super().decode(z)


def test_an_operator_that_couples_frames_takes_the_clip_whole(embedded: BoundPrior) -> None:
    clip = TemporalBlur(SIDE, SIDE, 3, uniform_temporal_kernel(3))
    solver = build_solver({"name": "ldps", "rows": 2}, clip, 0.05, embedded)
    assert solver.rows == 0
