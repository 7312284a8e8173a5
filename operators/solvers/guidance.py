"""Guidance rules: how the predictions with and without the prompt become one that solvers use.

CFG++ renoises with the unconditional noise. As solvers renoise with ``Prediction.eps``, a prior whose
``predict`` returns the guided z0 beside the unconditional eps turns every solver into its CFG++ variant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

from operators.errors import OperatorError
from operators.solvers.base import LatentPrior, Prediction
from operators.solvers.levels import Level, level

Rule = Literal["cfg", "cfgpp", "annealed"]


@dataclass(frozen=True)
class Branches:
    """Predictions with the empty prompt and with the prompt; the same object where both are equal."""

    uncond: Prediction
    cond: Prediction


class BranchPrior(LatentPrior, Protocol):
    """A prior that shows both predictions."""

    def branches(self, z: Tensor, t: int) -> Branches:
        """One network evaluation per distinct prompt, differentiable in ``z``."""


def mixed(branches: Branches, weight: Tensor | float) -> Prediction:
    """Classifier-free guidance (Ho and Salimans 2022): u + weight (c - u), in both forms."""
    u, c = branches.uncond, branches.cond
    if u is c:
        return c
    return Prediction(u.z0 + weight * (c.z0 - u.z0), u.eps + weight * (c.eps - u.eps), u.variance_share)


def cfgpp(branches: Branches, weight: Tensor | float) -> Prediction:
    """CFG++ (Chung et al. 2025, algorithm 2): z0 guided by ``weight`` in [0, 1], eps unconditional."""
    u = branches.uncond
    return Prediction(mixed(branches, weight).z0, u.eps, u.variance_share)


def equivalent_cfg_weight(weight: float, here: Level, there: Level) -> Tensor:
    """The CFG weight whose DDIM step from ``here`` to ``there`` is the CFG++ step of ``weight``."""
    pull = there.signal * here.noise
    return weight * pull / (pull - here.signal * there.noise)


class Guided:
    """A prior whose ``predict`` guides by a rule of ``weight``. The rest is the wrapped prior's.

    ``cfg``: weight at least 1. ``cfgpp``: weight in [0, 1]. ``annealed``: CFG++ of ab_t ``weight``, the
    distillation step of DreamSampler (Kim et al. 2024, section 3.3; time dependence as in its code).
    """

    def __init__(self, prior: BranchPrior, weight: float, rule: Rule) -> None:
        if rule not in ("cfg", "cfgpp", "annealed"):
            raise OperatorError(f"guidance: rule {rule!r} is unknown; use cfg, cfgpp or annealed")
        if rule != "cfg" and not 0.0 <= weight <= 1.0:
            raise OperatorError(f"guidance: {weight} is outside [0, 1] for the rule {rule}; 0.6 is usual")
        if not hasattr(prior, "branches"):
            raise OperatorError("guidance: this prior does not show its unconditional prediction")
        self._prior, self.weight, self.rule = prior, weight, rule

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)

    def predict(self, z: Tensor, t: int) -> Prediction:
        """The guided prediction."""
        branches = self._prior.branches(z, t)
        if self.rule == "cfg":
            return mixed(branches, self.weight)
        if self.rule == "cfgpp":
            return cfgpp(branches, self.weight)
        return cfgpp(branches, self.weight * level(self._prior, t).ab)


class Unconditional:
    """A branch prior that predicts without its prompt."""

    def __init__(self, prior: BranchPrior) -> None:
        self._prior = prior

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)

    def predict(self, z: Tensor, t: int) -> Prediction:
        """The unconditional prediction."""
        return self._prior.branches(z, t).uncond


def unconditional(prior: LatentPrior) -> LatentPrior:
    """``prior`` without its prompt, where it can do without."""
    return Unconditional(prior) if hasattr(prior, "branches") else prior
