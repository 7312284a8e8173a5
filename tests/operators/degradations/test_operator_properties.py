"""What every forward operator promises by its flags, over drawn sizes and seeds, in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.errors import OperatorError
from tests.operators.degradations.cases import (
    EVERY,
    ITERATIVE,
    LINEAR,
    NONLINEAR,
    TRUNCATED,
    Size,
    clip_of,
    measurement_of,
)

SIZES = st.builds(
    Size,
    frames=st.sampled_from([6, 8]),
    rows=st.integers(9, 15),
    columns=st.integers(9, 15),
    seed=st.integers(0, 30),
)
EXACT = [name for name in LINEAR if name not in ITERATIVE]
few = settings(max_examples=6, derandomize=True)


@pytest.mark.parametrize("name", LINEAR)
@few
@given(size=SIZES)
def test_the_adjoint_passes_the_dot_product_test_to_rounding(name: str, size: Size) -> None:
    operator = LINEAR[name](size)
    x, u = clip_of(operator, size), measurement_of(operator, size)
    measured = operator.apply(x)
    gap = (measured * u).sum() - (x * operator.adjoint(u)).sum()
    assert measured.norm() > 0.0
    assert abs(gap) <= 1e-12 * measured.norm() * u.norm()


@pytest.mark.parametrize("name", LINEAR)
@few
@given(size=SIZES)
def test_a_linear_operator_keeps_sums_and_multiples(name: str, size: Size) -> None:
    operator = LINEAR[name](size)
    a, b = clip_of(operator, size), size.normal("other", size.frames, 3, operator.height, operator.width)
    together = operator.apply(2.0 * a - 0.5 * b)
    torch.testing.assert_close(together, 2.0 * operator.apply(a) - 0.5 * operator.apply(b))


@pytest.mark.parametrize("name", NONLINEAR)
def test_an_operator_that_claims_no_linearity_has_none(name: str) -> None:
    size = Size(6, 10, 11, 3)
    operator = NONLINEAR[name](size)
    x = clip_of(operator, size)
    doubled = operator.apply(2.0 * x)
    assert not operator.linear
    assert (doubled - 2.0 * operator.apply(x)).abs().max() > 1e-2


@pytest.mark.parametrize("name", EVERY)
@few
@given(size=SIZES)
def test_a_measurement_has_the_announced_shape_dtype_and_number(name: str, size: Size) -> None:
    operator = EVERY[name](size)
    x = clip_of(operator, size).float()
    y = operator.apply(x)
    assert y.dtype == torch.float32
    assert y.shape == (operator.measured_frames(size.frames), *operator.measured_shape)
    restored = operator.classical(y)
    assert restored.dtype == torch.float32
    assert restored.shape == x.shape


@pytest.mark.parametrize("name", [n for n in EVERY if n not in ITERATIVE and n not in TRUNCATED])
@few
@given(size=SIZES)
def test_the_pseudo_inverse_reproduces_every_measurement_a_picture_can_cause(name: str, size: Size) -> None:
    operator = EVERY[name](size)
    if not operator.has_pinv:
        return
    y = operator.apply(clip_of(operator, size))
    torch.testing.assert_close(operator.apply(operator.pinv(y)), y, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", TRUNCATED)
@few
@given(size=SIZES)
def test_a_truncated_pseudo_inverse_is_one_of_the_part_it_keeps(name: str, size: Size) -> None:
    operator = LINEAR[name](size)
    back = operator.pinv(measurement_of(operator, size))
    again = operator.pinv(operator.apply(back))
    assert (again - back).norm() <= 1e-7 * back.norm()


@pytest.mark.parametrize("name", ITERATIVE)
def test_an_iterative_pseudo_inverse_is_the_tikhonov_solution(name: str) -> None:
    size = Size(6, 11, 13, 2)
    operator = LINEAR[name](size)
    y = measurement_of(operator, size)
    u = operator.pinv(y)
    gradient = operator.adjoint(operator.apply(u) - y) + 0.03**2 * u
    assert gradient.norm() < 2e-5 * operator.adjoint(y).norm()


@pytest.mark.parametrize("gamma", [0.0, 0.3, 2000.0])
@pytest.mark.parametrize("name", [n for n in LINEAR if n not in ("salt and pepper", "shot noise")])
@few
@given(size=SIZES)
def test_the_prox_satisfies_its_optimality_condition(name: str, gamma: float, size: Size) -> None:
    operator = LINEAR[name](size)
    x, y = clip_of(operator, size), measurement_of(operator, size)
    u = operator.prox(x, y, gamma)
    condition = gamma * operator.adjoint(operator.apply(u) - y) + u - x
    tolerance = 2e-5 if name in ITERATIVE else 1e-10
    assert condition.norm() <= tolerance * (gamma * operator.adjoint(y) + x).norm()


@pytest.mark.parametrize("name", [n for n in LINEAR if n not in ("salt and pepper", "shot noise")])
def test_no_neighbour_of_a_proximal_point_is_better(name: str) -> None:
    size = Size(6, 9, 11, 4)
    operator = LINEAR[name](size)
    x, y, gamma = clip_of(operator, size), measurement_of(operator, size), 3.0

    def cost(u: torch.Tensor) -> float:
        return float(0.5 * gamma * (operator.apply(u) - y).square().sum() + 0.5 * (u - x).square().sum())

    u = operator.prox(x, y, gamma)
    away = size.normal("direction", *x.shape)
    assert all(cost(u + step * away) > cost(u) for step in (-1e-2, 1e-2))


@pytest.mark.parametrize("name", EVERY)
def test_the_transposed_jacobian_is_that_of_autograd(name: str) -> None:
    size = Size(6, 10, 13, 5)
    operator = EVERY[name](size)
    x = 0.3 * clip_of(operator, size)
    u = measurement_of(operator, size)
    at = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad((operator.apply(at) * u).sum(), at)
    with torch.no_grad():
        ours = operator.vjp(x, u)
    torch.testing.assert_close(ours, gradient, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", ["clipping", "lens", "phase retrieval", "flicker"])
def test_the_derivative_of_a_smooth_operator_is_that_of_finite_differences(name: str) -> None:
    size = Size(6, 9, 10, 6)
    operator = NONLINEAR[name](size)
    x = 0.4 * torch.tanh(clip_of(operator, size))
    direction, u = size.normal("direction", *x.shape), measurement_of(operator, size)
    step = 1e-6
    change = (operator.apply(x + step * direction) - operator.apply(x - step * direction)) / (2.0 * step)
    expected = (change * u).sum()
    assert torch.isclose((operator.vjp(x, u) * direction).sum(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in EVERY if EVERY[n](Size(6, 9, 9, 0)).frames is None])
def test_operators_without_a_clip_treat_rows_apart(name: str) -> None:
    size = Size(6, 10, 9, 7)
    operator = EVERY[name](size)
    if operator.couples_frames:
        return
    x, y = clip_of(operator, size)[:2], measurement_of(operator, size)[:2]
    x[1] *= 100.0
    whole = [operator.apply(x), operator.classical(y)]
    rows = [
        torch.cat([operator.apply(x[i : i + 1]) for i in range(2)]),
        torch.cat([operator.classical(y[i : i + 1]) for i in range(2)]),
    ]
    if operator.has_prox:
        whole.append(operator.prox(x, y, 5.0))
        rows.append(torch.cat([operator.prox(x[i : i + 1], y[i : i + 1], 5.0) for i in range(2)]))
    for together, apart in zip(whole, rows, strict=True):
        torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_restricting_twice_is_restricting_once_and_loses_no_measurement(name: str) -> None:
    size = Size(6, 10, 9, 8)
    operator = EVERY[name](size)
    y = operator.apply(clip_of(operator, size))
    torch.testing.assert_close(operator.restrict(y), y)
    seen = size.normal("video", len(y), 3, *operator.measured_shape[1:])
    once = operator.restrict(seen)
    assert once.shape[1:] == operator.measured_shape
    torch.testing.assert_close(operator.restrict(once), once)


@pytest.mark.parametrize("name", EVERY)
def test_a_lacking_capability_is_refused_by_name(name: str) -> None:
    size = Size(6, 9, 9, 1)
    operator = EVERY[name](size)
    x, y = clip_of(operator, size), measurement_of(operator, size)
    calls = {
        "has_adjoint": lambda: operator.adjoint(y),
        "has_pinv": lambda: operator.pinv(y),
        "has_prox": lambda: operator.prox(x, y, 1.0),
    }
    for flag, call in calls.items():
        if getattr(operator, flag):
            assert call().shape == x.shape
        else:
            with pytest.raises(OperatorError, match=type(operator).__name__):
                call()


CLIPPED = [n for n in EVERY if EVERY[n](Size(6, 9, 9, 0)).frames is not None]


@pytest.mark.parametrize("name", CLIPPED)
def test_a_clip_of_another_length_is_refused(name: str) -> None:
    size = Size(6, 9, 9, 0)
    operator = EVERY[name](size)
    with pytest.raises(OperatorError, match="clip of 6 frames and was given 5"):
        operator.apply(clip_of(operator, size)[:5])
