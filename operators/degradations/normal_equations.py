"""Regularised least squares for linear operators without a closed form."""

from __future__ import annotations

from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.solvers.linear_algebra import conjugate_gradient

# Stopping rule: relative residual of the normal equations, and a bound on work.
CG_TOLERANCE = 1e-5
CG_ITERATIONS = 200


def regularised_solution(operator: ForwardOperator, rhs: Tensor, start: Tensor, weight: float) -> Tensor:
    """(A^T A + weight I)^{-1} rhs by conjugate gradients, for ``operator.linear`` and ``weight`` > 0.

    ``rhs``, ``start``: [B, 3, H, W]. Rows are solved apart, unless the operator couples frames: then the
    clip is one system.
    """
    if not operator.couples_frames:
        return conjugate_gradient(
            lambda v: operator.adjoint(operator.apply(v)) + weight * v,
            rhs,
            start,
            iterations=CG_ITERATIONS,
            tolerance=CG_TOLERANCE,
        )
    (solution,) = conjugate_gradient(
        lambda v: operator.adjoint(operator.apply(v[0]))[None] + weight * v,
        rhs[None],
        start[None],
        iterations=CG_ITERATIONS,
        tolerance=CG_TOLERANCE,
    )
    return solution
