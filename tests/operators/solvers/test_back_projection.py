"""The data step that is spread smoothly: it measures as the prox does."""

from __future__ import annotations

import pytest
import torch

from operators.degradations.registry import build_operator
from operators.solvers.back_projection import back_project, spread_prox

ENLARGED = [
    {"kind": "super_resolution", "scale": s, "kernel": k} for s in (2, 4) for k in ("area", "bicubic")
]


def named(spec: dict) -> str:
    return f"{spec['kernel']} x{spec['scale']}"


@pytest.mark.parametrize("spec", ENLARGED, ids=named)
@pytest.mark.parametrize("gamma", [0.5, 1e7])
def test_the_spread_step_measures_as_the_prox_does(spec: dict, gamma: float) -> None:
    operator = build_operator(spec, 32, 40, {})
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 32, 40, dtype=torch.float64, generator=generator)
    y = torch.rand(2, 3, 32 // operator.scale, 40 // operator.scale, dtype=torch.float64, generator=generator)
    expected = operator.apply(operator.prox(x, y, gamma))
    torch.testing.assert_close(
        operator.apply(spread_prox(operator, x, y, gamma)), expected, atol=1e-9, rtol=0
    )


def test_of_a_smooth_picture_the_spread_step_keeps_the_smoothness() -> None:
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    truth = (torch.sin(rows / 5) + torch.cos(columns / 7)).expand(1, 3, 32, 32).double()
    operator = build_operator({"kind": "super_resolution", "scale": 4}, 32, 32, {})
    y, flat = operator.apply(truth), torch.zeros_like(truth)
    spread, plain = spread_prox(operator, flat, y, 1e7), operator.prox(flat, y, 1e7)
    assert (spread - truth).norm() < 0.4 * (plain - truth).norm()


def test_without_enlargement_it_is_the_prox() -> None:
    operator = build_operator({"kind": "inpainting", "boxes": [[2, 2, 3, 3]]}, 8, 8, {})
    x, y = torch.rand(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(spread_prox(operator, x, y, 3.0), operator.prox(x, y, 3.0))


def test_back_projection_leaves_what_fits() -> None:
    operator = build_operator({"kind": "super_resolution", "scale": 2}, 16, 16, {})
    x = torch.rand(1, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(back_project(operator, x, operator.apply(x)), x)
