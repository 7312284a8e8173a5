"""The prox by Gauss-Newton steps: that of linear operators, and a minimum where there is no closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from operators.degradations.lens_blur import LensBlur
from operators.degradations.super_resolution import AreaDownsampling
from operators.noise import keyed_normal
from operators.solvers.base import LatentPrior, State
from operators.solvers.gauss_newton import gauss_newton_prox
from operators.solvers.last_fit import LastFit

SIDE, GAMMA = 24, 6.25


def picture(rows: int = 2) -> Tensor:
    coarse = torch.rand(rows, 3, 4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return torch.nn.functional.interpolate(coarse, SIDE, mode="bicubic") * 1.4 - 0.7


def noise(name: str) -> Tensor:
    return 0.1 * keyed_normal((2, 3, SIDE, SIDE), name).double()


def test_of_a_linear_operator_it_is_the_closed_form() -> None:
    operator = AreaDownsampling(SIDE, SIDE, 2)
    x, y = picture() + noise("x"), operator.apply(picture())
    found = gauss_newton_prox(operator, x, y, GAMMA)
    torch.testing.assert_close(found, operator.prox(x, y, GAMMA), rtol=1e-4, atol=1e-4)


def test_of_a_lens_it_is_where_the_objective_is_flat_and_a_row_is_its_own() -> None:
    operator = LensBlur(SIDE, SIDE, 1.0, 2.0)
    x, y = picture() + noise("x"), operator.apply(picture())

    def slope(u: Tensor) -> Tensor:
        return GAMMA * operator.vjp(u, operator.apply(u) - y) + u - x

    found = gauss_newton_prox(operator, x, y, GAMMA)
    assert float(slope(found).norm()) < 0.02 * float(slope(x).norm())
    assert float((operator.apply(found) - y).norm()) < 0.5 * float((operator.apply(x) - y).norm())
    torch.testing.assert_close(gauss_newton_prox(operator, x[:1], y[:1], GAMMA), found[:1])


@dataclass(frozen=True)
class Nothing:
    """A solver that returns what it is given."""

    x: Tensor
    timesteps: tuple[int, ...] = ()

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        return State(z=noise, y=y)

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        return state

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        return self.x


def test_the_last_fit_of_a_nonlinear_operator_is_this_one() -> None:
    operator = LensBlur(SIDE, SIDE, 1.0, 2.0)
    x, y = picture() + noise("x"), operator.apply(picture())
    fitted = LastFit(Nothing(x), operator, GAMMA).finish(State(z=x, y=y), None)
    assert torch.equal(fitted, gauss_newton_prox(operator, x, y, GAMMA))
