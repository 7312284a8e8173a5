"""The prox of operators that have none in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.solvers.linear_algebra import conjugate_gradient

ROUNDS, ITERATIONS, TOLERANCE = 3, 15, 1e-3


def gauss_newton_prox(operator: ForwardOperator, x: Tensor, y: Tensor, gamma: float) -> Tensor:
    """About argmin_u gamma/2 ||A(u) - y||^2 + 1/2 ||u - x||^2, for A that can be differentiated.

    `ROUNDS` of linearising A at u and solving (I + gamma J^T J) d = x - u + gamma J^T (y - A(u)) by conjugate
    gradients, each row of [B, 3, H, W] on its own.
    """
    u = x
    for _ in range(ROUNDS):
        at = u

        def normal(v: Tensor, at: Tensor = at) -> Tensor:
            return v + gamma * operator.vjp(at, jacobian_product(operator, at, v))

        rhs = x - at + gamma * operator.vjp(at, y - operator.apply(at))
        u = at + conjugate_gradient(normal, rhs, torch.zeros_like(at), ITERATIONS, TOLERANCE)
    return u


def jacobian_product(operator: ForwardOperator, at: Tensor, v: Tensor) -> Tensor:
    """J v with J the Jacobian of A at ``at``: u -> J^T u is linear, so its derivative along v is J v."""
    with torch.enable_grad():
        x = at.detach().requires_grad_(True)
        measured = operator.apply(x)
        u = torch.zeros_like(measured, requires_grad=True)
        (pulled,) = torch.autograd.grad(measured, x, u, create_graph=True)
        (pushed,) = torch.autograd.grad(pulled, u, v)
    return pushed
