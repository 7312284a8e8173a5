"""The periodical self-ensemble of DPIR: exact where it must not matter, and where DPIR begins."""

from __future__ import annotations

import torch

from operators.degradations.inpainting import Inpainting
from operators.degradations.masks import mask_from_boxes
from operators.degradations.registry import build_operator
from operators.solvers.dpir import Dpir, starting_picture
from operators.solvers.registry import build_solver
from operators.solvers.smooth_fill import smooth_fill
from tests.operators.solvers.test_dpir import run
from tests.support.gaussian_prior import GaussianPrior, smooth_gaussian_prior

BOX = {"kind": "inpainting", "boxes": [[0, 1, 3, 2]]}


def symmetric_prior() -> GaussianPrior:
    """Its mean is constant and its covariance knows distances alone: no mirror image is less likely."""
    prior = smooth_gaussian_prior(4, 6, torch.Generator().manual_seed(0))
    prior.mean = torch.full_like(prior.mean, 0.1)
    return prior


def test_a_prior_without_a_preferred_direction_gives_the_same_through_mirrors() -> None:
    prior, operator = symmetric_prior(), build_operator(BOX, 4, 6, {})
    y = operator.apply(prior.draw(2, torch.Generator().manual_seed(1)))
    plain, mirrored = (
        run(build_solver({"name": "dpir", "steps": 6, "mirrored": on}, operator, 0.1, prior), y, prior)
        for on in (False, True)
    )
    torch.testing.assert_close(mirrored, plain, rtol=0, atol=1e-10)


def test_each_of_four_steps_sees_another_mirror_image_and_the_result_is_upright() -> None:
    prior, operator = symmetric_prior(), build_operator(BOX, 4, 6, {})
    y = operator.apply(prior.draw(1, torch.Generator().manual_seed(2)))
    solver = build_solver({"name": "dpir", "steps": 4}, operator, 0.01, prior)
    assert isinstance(solver, Dpir)
    assert solver.mirrored
    keep = torch.from_numpy(operator.mask)
    state = solver.start(y, torch.zeros(()), prior)
    for i, axes in enumerate([(), (3,), (2,), (2, 3)]):
        assert state.x is not None
        upright = state.x.flip(axes) if axes else state.x
        torch.testing.assert_close(upright * keep, y * keep, rtol=0, atol=0.01)
        state = solver.step(i, state, prior)
    torch.testing.assert_close(solver.finish(state, prior) * keep, y * keep, rtol=0, atol=0.01)


def test_holes_begin_as_a_mean_of_three_fills_and_everything_else_classical() -> None:
    y = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    holes = Inpainting(mask_from_boxes([[4, 4, 5, 6]], 16, 16))
    filled = smooth_fill(holes.restrict(y), torch.from_numpy(holes.mask))
    expected = (2 * filled + holes.classical(holes.restrict(y))) / 3
    torch.testing.assert_close(starting_picture(holes, holes.restrict(y)), expected)
    enlarging = build_operator({"kind": "super_resolution", "scale": 2}, 32, 32, {})
    assert torch.equal(starting_picture(enlarging, y), enlarging.classical(y))
