"""The data step of enlarged pictures, spread smoothly over the pixels behind each measured one."""

from __future__ import annotations

from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.degradations.super_resolution import bicubic_upsample

ROUNDS = 3


def back_project(operator: ForwardOperator, x: Tensor, y: Tensor) -> Tensor:
    """``x`` moved towards A x = y by `ROUNDS` of x + U (y - A x), U bicubic enlargement.

    Irani and Peleg 1991, "Improving resolution by image registration". Converges to A x = y where A U is
    close to the identity, as for block means and antialiased bicubic downsampling.
    """
    for _ in range(ROUNDS):
        x = x + bicubic_upsample(y - operator.apply(x), operator.scale)
    return x


def spread_prox(operator: ForwardOperator, x: Tensor, y: Tensor, gamma: float) -> Tensor:
    """A picture that measures as ``operator.prox(x, y, gamma)`` does, and is smoother.

    The prox changes ``x`` by A^T of something, which for block means is constant on each block and leaves
    their outlines. What A sees is settled by the prox; how the change is shared out within a block is not
    measured, and back-projection shares it out like the pictures' own detail. For scale 1 it is the prox.
    """
    settled = operator.prox(x, y, gamma)
    if operator.scale == 1:
        return settled
    goal = operator.apply(settled)
    u = back_project(operator, x, goal)
    return u + operator.pinv(goal - operator.apply(u))
