"""Conjugate gradients on a batch, each row on its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradient(
    normal: Callable[[Tensor], Tensor],
    rhs: Tensor,
    start: Tensor,
    iterations: int,
    tolerance: float,
    *,
    relative: bool = True,
) -> Tensor:
    """Solves ``normal(x) = rhs`` per batch row (Hestenes and Stiefel, 1952).

    ``normal``: symmetric positive definite map that treats rows independently, such as
    v -> A^T A v + lam v. ``rhs``, ``start``: [B, ...]. A row stops at ||residual|| <=
    ``tolerance`` ||rhs|| (``relative``) or ``tolerance``, and stays put while others go on, so a row
    does not depend on its neighbours. Inner products are taken in float32 at least.
    """
    x = start
    residual = rhs - normal(x)
    direction = residual
    power = _row_dot(residual, residual)
    goal = tolerance**2 * (_row_dot(rhs, rhs) if relative else torch.ones_like(power))
    for _ in range(iterations):
        active = power > goal
        if not bool(active.any()):
            break
        image = normal(direction)
        curvature = _row_dot(direction, image)
        # The floor only guards rows that have stopped, where direction and curvature may be zero.
        alpha = torch.where(active, power / curvature.clamp_min(1e-30), 0.0)
        x = x + _rows(alpha, x) * direction
        residual = residual - _rows(alpha, x) * image
        next_power = _row_dot(residual, residual)
        beta = torch.where(active, next_power / power.clamp_min(1e-30), 0.0)
        direction = residual + _rows(beta, x) * direction
        power = torch.where(active, next_power, power)
    return x


def _row_dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product per batch row, [B]."""
    wide = torch.promote_types(a.dtype, torch.float32)
    return (a.to(wide) * b.to(wide)).flatten(1).sum(1)


def _rows(scalars: Tensor, like: Tensor) -> Tensor:
    """[B] as [B, 1, ...] in the dtype of ``like``."""
    return scalars.to(like.dtype).view(-1, *([1] * (like.ndim - 1)))
