"""CDDB (Chung, Kim and Ye 2023, "Direct Diffusion Bridge using Data Consistency for Inverse Problems", arXiv
2305.19809) on image bridges (I2SB, Liu et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.solvers.base import State
from operators.solvers.checkpoints import BridgePrior


@dataclass(frozen=True)
class BridgeWeights:
    """One step of a bridge's posterior: x' = at_x0 x0 + at_x x + std n."""

    at_x0: Tensor
    at_x: Tensor
    std: Tensor


def bridge_weights(std: Tensor, std_next: Tensor) -> BridgeWeights:
    """Product of N(x0, s'^2) and N(x, s^2 - s'^2) (I2SB, eq. 4); the two weights sum to one."""
    gained = std.square() - std_next.square()
    at_x0 = gained / std.square()
    return BridgeWeights(at_x0, 1.0 - at_x0, (std_next.square() * at_x0).sqrt())


@dataclass(frozen=True)
class Cddb:
    """The bridge's posterior step, then x' -= at_x0 ``step_size`` 2 A^T (A x0 - y) (algorithm 1).

    ``timesteps``: the visited indices of the bridge, descending, of which the last (usually 0) is arrived at
    and not evaluated. ``deep``: the gradient goes through the network instead, without at_x0 (CDDB-deep).
    ``deterministic``: no noise (OT-ODE). ``prior`` is a `BridgePrior`, ``noise`` of ``start`` is not used.
    Where A A^T = I a ``step_size`` of 1 reflects the residual at the last step, 0.5 removes it.
    """

    operator: ForwardOperator
    visited: tuple[int, ...]
    step_size: float = 1.0
    deep: bool = False
    deterministic: bool = False

    @property
    def timesteps(self) -> tuple[int, ...]:
        """The indices at which the network is evaluated."""
        return self.visited[:-1]

    def start(self, y: Tensor, noise: Tensor, prior: BridgePrior) -> State:
        return State(z=prior.start(y, self.operator), y=y)

    def step(self, i: int, state: State, prior: BridgePrior) -> State:
        index, index_next = self.visited[i], self.visited[i + 1]
        weights = bridge_weights(prior.std_fwd[index], prior.std_fwd[index_next])
        x0, pull = self._estimate(state.z, index, state.y, prior)
        x = weights.at_x0 * x0 + weights.at_x * state.z
        if index_next > 0 and not self.deterministic:
            x = x + weights.std * state.normal(i, "posterior")
        size = self.step_size if self.deep else self.step_size * weights.at_x0
        return replace(state, z=x - size * pull, z0=x0)

    def finish(self, state: State, prior: BridgePrior) -> Tensor:
        return state.z

    def _estimate(self, x: Tensor, index: int, y: Tensor, prior: BridgePrior) -> tuple[Tensor, Tensor]:
        """x0 and the gradient of ||A x0 - y||^2, at x0 or, deep, at x."""
        if not self.deep:
            x0 = prior.predict_x0(x, index).detach()
            return x0, 2.0 * self.operator.adjoint(self.operator.apply(x0) - y)
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            x0 = prior.predict_x0(x, index)
            (pull,) = torch.autograd.grad((self.operator.apply(x0) - y).square().sum(), x)
        return x0.detach(), pull
