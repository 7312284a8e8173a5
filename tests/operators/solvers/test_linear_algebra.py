"""Conjugate gradients against dense solves."""

from __future__ import annotations

from collections.abc import Callable

import torch

from operators.solvers.linear_algebra import conjugate_gradient


def systems(batch: int = 3, d: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(batch, 12, d, dtype=torch.float64, generator=generator)
    normal = a.mT @ a + 0.3 * torch.eye(d, dtype=torch.float64)
    return normal, torch.randn(batch, d, dtype=torch.float64, generator=generator)


def dense_map(normal: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda v: (normal @ v[..., None])[..., 0]


def test_conjugate_gradients_equal_the_dense_solution() -> None:
    normal, rhs = systems()
    x = conjugate_gradient(dense_map(normal), rhs, torch.zeros_like(rhs), iterations=100, tolerance=1e-12)
    torch.testing.assert_close(x, torch.linalg.solve(normal, rhs), rtol=0, atol=1e-10)


def test_a_row_is_not_changed_by_neighbours_that_need_more_iterations() -> None:
    normal, rhs = systems()
    normal[0] = torch.eye(20)

    def solve(rows: slice) -> torch.Tensor:
        return conjugate_gradient(
            dense_map(normal[rows]),
            rhs[rows],
            torch.zeros_like(rhs[rows]),
            iterations=30,
            tolerance=1e-3,
        )

    together = solve(slice(0, 3))
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], solve(slice(i, i + 1)), rtol=0, atol=1e-9)


def test_a_start_at_the_solution_is_returned_as_it_is() -> None:
    normal, rhs = systems()
    exact = torch.linalg.solve(normal, rhs)
    x = conjugate_gradient(dense_map(normal), rhs, exact, iterations=10, tolerance=1e-9)
    assert torch.equal(x, exact)


def test_a_zero_right_hand_side_gives_zero_without_dividing_by_it() -> None:
    normal, rhs = systems()
    zero = torch.zeros_like(rhs)
    x = conjugate_gradient(dense_map(normal), zero, zero, iterations=10, tolerance=1e-9)
    assert torch.equal(x, zero)
