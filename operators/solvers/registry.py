"""From the ``solver`` mapping of a job to a solver, or to the list of those that would work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from operators.degradations.base import ForwardOperator
from operators.errors import OperatorError
from operators.solvers import recipes_checkpoint, recipes_fit, recipes_gradient
from operators.solvers.base import LatentPrior, StepSolver
from operators.solvers.fields import Spec
from operators.solvers.levels import prior_kind

Recipe = Callable[[Spec, ForwardOperator, float, LatentPrior], StepSolver]

_WORDS = {
    "linear": "a linear operator",
    "differentiable": "an operator that can be differentiated",
    "has_adjoint": "an operator with an adjoint",
    "has_pinv": "an operator with a pseudo-inverse",
    "has_prox": "an operator with a prox in closed form",
    "complete": "an operator all of whose measured values count",
    "kernel": "a blur given by its kernel (deblur with kernel motion, disk or anisotropic)",
}


@dataclass(frozen=True)
class Method:
    """How a solver is built, what it needs of the operator (attributes that hold) and of the prior."""

    recipe: Recipe
    needs: tuple[str, ...]
    kinds: tuple[str, ...] = ("diffusion", "consistency")

    def lacks(self, operator: ForwardOperator, prior: LatentPrior) -> str:
        """What keeps it from working, in words; "" if nothing does."""
        held = {need: getattr(operator, need, None) for need in self.needs}
        missing = [need for need, value in held.items() if value is None or value is False]
        if missing:
            return f"needs {_WORDS[missing[0]]}"
        if prior_kind(prior) not in self.kinds:
            return f"needs a {' or '.join(self.kinds)} model, and this one is a {prior_kind(prior)} model"
        return ""


ANY_KIND = ("diffusion", "consistency", "flow")
METHODS: dict[str, Method] = {
    "dpir": Method(recipes_fit.dpir, ("has_pinv", "has_prox")),
    "psld": Method(recipes_gradient.psld, ("differentiable", "has_pinv", "complete")),
    "ldps": Method(recipes_gradient.ldps, ("differentiable", "complete")),
    "dps_nojac": Method(recipes_gradient.dps_nojac, ("differentiable", "complete"), ANY_KIND),
    "stsl": Method(recipes_gradient.stsl, ("differentiable", "complete")),
    "resample": Method(recipes_gradient.resample, ("differentiable", "complete")),
    "reddiff": Method(recipes_gradient.reddiff, ("differentiable", "complete")),
    "blind_dps": Method(recipes_gradient.blind_dps, ("kernel",)),
    "treg": Method(recipes_fit.treg, ("linear", "has_adjoint", "complete")),
    "dreamsampler": Method(recipes_fit.dreamsampler, ("linear", "has_adjoint", "differentiable", "complete")),
    "diffpir": Method(recipes_fit.diffpir, ("has_prox",)),
    "ddnm": Method(recipes_fit.ddnm, ("linear", "has_pinv", "complete")),
    "latino": Method(recipes_fit.latino, ("has_prox",), ("consistency",)),
    "video_latent": Method(recipes_fit.video_latent, ("linear", "has_prox")),
    "svi": Method(recipes_fit.svi, ("linear", "has_adjoint", "complete")),
    "lvtino": Method(recipes_checkpoint.lvtino, ("has_prox",), ("consistency",)),
    "flowchef": Method(recipes_gradient.flowchef, ("differentiable", "complete"), ("flow",)),
    "flowdps": Method(recipes_gradient.flowdps, ("linear", "has_pinv", "complete"), ("flow",)),
    "cddb": Method(recipes_checkpoint.cddb, ("linear", "has_pinv", "complete"), ANY_KIND),
}


def build_solver(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """The solver of ``spec`` for measurements of ``operator`` with noise ``sigma_y`` on [-1, 1].

    ``spec["name"]`` is a key of `METHODS`; the other fields are those of its recipe. For fidelity take
    ``dpir``; the others are samplers, more or less. Of ``prior`` the kind, the schedule and the noise gain
    are read, and gradient solvers measure on one picture how many fit in memory. Raises OperatorError naming
    the field, or what would work instead.
    """
    name = spec.get("name")
    if name not in METHODS:
        raise OperatorError(f"solver.name: {name!r} is unknown; use one of {', '.join(sorted(METHODS))}")
    lacking = METHODS[name].lacks(operator, prior)
    if lacking:
        works = ", ".join(solvers_for(operator, prior)) or "none"
        raise OperatorError(
            f"solver.name: {name} {lacking}; {type(operator).__name__} and this model go with: {works}"
        )
    return METHODS[name].recipe(spec, operator, sigma_y, prior)


def solvers_for(operator: ForwardOperator, prior: LatentPrior) -> tuple[str, ...]:
    """Names of the solvers that can restore what ``operator`` did, with ``prior``."""
    return tuple(name for name, method in sorted(METHODS.items()) if not method.lacks(operator, prior))
