"""From the ``solver`` mapping of a job to a solver."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from operators.degradations.base import ForwardOperator
from operators.degradations.blur import MINIMAL_NOISE
from operators.degradations.denoise import Denoise
from operators.errors import OperatorError
from operators.solvers.base import LatentPrior, StepSolver
from operators.solvers.ddim import leading_timesteps
from operators.solvers.dpir import Dpir
from operators.solvers.matched_denoise import MatchedDenoise
from operators.solvers.noise_levels import log_spaced_timesteps, pixel_sigmas
from operators.solvers.psld import Psld

Spec = Mapping[str, Any]


def build_solver(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """The solver of ``spec`` for measurements of ``operator`` with noise ``sigma_y`` on [-1, 1].

    ``spec["name"]``: ``dpir`` (``steps``, ``lam``, ``sigma_high``, ``sigma_low``,
    ``sigma_final``) for fidelity, or
    ``psld`` (``steps``, ``omega``, ``gamma``) for posterior samples. Only the schedule of ``prior``
    is read. Raises OperatorError naming the field.
    """
    name = spec.get("name")
    if name not in _BUILDERS:
        raise OperatorError(f"solver.name: {name!r} is unknown; use one of {', '.join(sorted(_BUILDERS))}")
    return _BUILDERS[name](spec, operator, sigma_y, prior)


def _psld(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    return Psld(
        operator,
        leading_timesteps(int(spec.get("steps", 100)), len(prior.alphas_cumprod)),
        omega=_positive(spec, "omega", 1.0),
        gamma=_positive(spec, "gamma", 0.1),
    )


def _dpir(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    sigmas = pixel_sigmas(prior)
    noise = max(sigma_y, MINIMAL_NOISE)
    if isinstance(operator, Denoise):
        low = min(noise, DENOISE_LOW)
        return MatchedDenoise(log_spaced_timesteps(sigmas, noise, low, int(spec.get("steps", 1))))
    high = _positive(spec, "sigma_high", 0.1)
    low = _positive(spec, "sigma_low", 0.05)
    timesteps = log_spaced_timesteps(sigmas, high, low, int(spec.get("steps", 3)))
    lam = _positive(spec, "lam", 0.1)
    weights = tuple(float(sigmas[t]) ** 2 / (lam * noise**2) for t in timesteps)
    final = _positive(spec, "sigma_final", 0.05)
    return Dpir(operator, timesteps, weights, final_weight=(final / noise) ** 2)


# Denoising in several steps ends at this level; below it the network changes nothing visible.
DENOISE_LOW = 0.06


def _positive(spec: Spec, field: str, default: float) -> float:
    value = float(spec.get(field, default))
    if not value > 0.0:
        raise OperatorError(f"solver.{field}: {value} is not above zero; the default is {default}")
    return value


_BUILDERS: dict[str, Callable[[Spec, ForwardOperator, float, LatentPrior], StepSolver]] = {
    "dpir": _dpir,
    "psld": _psld,
}
