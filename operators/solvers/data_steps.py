"""How a measurement enters: the data steps that solvers are composed of.

y = A x + n with x = D(z0) in [-1, 1]. Everything is per batch row: norms, step sizes and stopping rules, so
that a row does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.solvers.base import LatentPrior, Prediction
from operators.solvers.likelihoods import Likelihood
from operators.solvers.linear_algebra import conjugate_gradient

#: One loss per row, [B'], of a slice of latents and the rows of the batch that it holds.
RowLoss = Callable[[Tensor, slice], Tensor]


def gradient_through_network(
    z: Tensor, t: int, prior: LatentPrior, loss: RowLoss, rows: int = 0
) -> tuple[Prediction, Tensor]:
    """The prediction at z and grad_z loss(z0), both detached: one evaluation and one backward pass.

    First grad_{z0}, for ``rows`` rows at a time (0: all), so that only a slice of the batch holds decoder
    activations; then all rows go through the network's Jacobian at once, because shared attention needs the
    whole batch in one call. Losses are summed over rows: the gradient of a row is its own.
    """
    with torch.enable_grad():
        z = z.detach().requires_grad_(True)
        prediction = prior.predict(z, t)
        pull = gradient_at_estimate(prediction.z0, loss, rows)
        (gradient,) = torch.autograd.grad(prediction.z0, z, pull)
    return detached(prediction), gradient


def gradient_at_estimate(z0: Tensor, loss: RowLoss, rows: int = 0) -> Tensor:
    """grad_{z0} of the per-row ``loss(z0[part], part)``, ``rows`` rows at a time (0: all at once)."""
    step = rows or len(z0)
    parts = []
    for at in range(0, len(z0), step):
        part = slice(at, at + step)
        with torch.enable_grad():
            leaf = z0[part].detach().requires_grad_(True)
            parts.append(torch.autograd.grad(loss(leaf, part).sum(), leaf)[0])
    return torch.cat(parts)


def data_loss(operator: ForwardOperator, y: Tensor, prior: LatentPrior, likelihood: Likelihood) -> RowLoss:
    """The likelihood of ``y`` as a loss of latents: z0 -> likelihood(A D(z0), y), per row."""
    return lambda z0, part: likelihood(operator.apply(prior.decode(z0)), y[part])


def normal_equations(
    operator: ForwardOperator,
    x: Tensor,
    y: Tensor,
    weight: float,
    iterations: int,
    tolerance: float,
    *,
    joint: bool = False,
) -> Tensor:
    """``iterations`` of conjugate gradients on (A^T A + weight I) u = A^T y + weight x, begun at x.

    Stops at a residual of ``tolerance`` (its norm, not relative). ``joint`` solves one system for all rows,
    the frames of a clip whose operator couples them. Linear operators only.
    """

    def rows(v: Tensor) -> Tensor:
        return v[None] if joint else v

    def normal(v: Tensor) -> Tensor:
        u = v[0] if joint else v
        return rows(operator.adjoint(operator.apply(u)) + weight * u)

    rhs = rows(operator.adjoint(y) + weight * x)
    solved = conjugate_gradient(normal, rhs, rows(x), iterations, tolerance, relative=False)
    return solved[0] if joint else solved


def first_picture(operator: ForwardOperator, y: Tensor, classical: bool = False) -> Tensor:
    """A^+ y where there is one and ``classical`` is off, else the classical restoration; [B, 3, H, W]."""
    return operator.pinv(y) if operator.has_pinv and not classical else operator.classical(y)


def project(operator: ForwardOperator, x: Tensor, y: Tensor) -> Tensor:
    """x - A^+ (A x - y): the nearest picture that measures as y, for exact A^+ and noiseless y."""
    return x - operator.pinv(operator.apply(x) - y)


def minimise(
    start: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    iterations: int,
    rate: float,
    goal: float = 0.0,
    patience: int = 0,
) -> Tensor:
    """Adam (Kingma and Ba 2015, usual betas) on a per-row ``loss``; a row stops at ``goal``, or when its
    loss exceeds that of ``patience`` iterations ago (0: never). Returns the detached minimiser."""
    z = start.detach()
    mean, power = torch.zeros_like(z), torch.zeros_like(z)
    history: list[Tensor] = []
    active = torch.ones(len(z), dtype=torch.bool, device=z.device)
    for n in range(1, iterations + 1):
        with torch.enable_grad():
            leaf = z.requires_grad_(True)
            value = loss(leaf)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        z, value = leaf.detach(), value.detach()
        active &= value > goal
        if patience and len(history) >= patience:
            active &= value <= history[-patience]
        if not bool(active.any()):
            break
        history.append(value)
        z, mean, power = adam(z, gradient, mean, power, n, rate, rows=active)
    return z


def adam(
    z: Tensor,
    gradient: Tensor,
    mean: Tensor,
    power: Tensor,
    n: int,
    rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    rows: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The ``n``-th Adam update (1-based), elementwise: new (z, mean, power). ``rows`` bool [B] limits the
    move to some rows."""
    mean = betas[0] * mean + (1.0 - betas[0]) * gradient
    power = betas[1] * power + (1.0 - betas[1]) * gradient.square()
    root = (power / (1.0 - betas[1] ** n)).sqrt() + 1e-8
    move = rate * (mean / (1.0 - betas[0] ** n)) / root
    if rows is not None:
        move = move * rows.to(move.dtype).view(-1, *([1] * (z.ndim - 1)))
    return z - move, mean, power


def detached(prediction: Prediction) -> Prediction:
    """The same numbers without a graph."""
    share = prediction.variance_share
    return Prediction(
        prediction.z0.detach(), prediction.eps.detach(), None if share is None else share.detach()
    )
