"""From the ``solver`` mapping of a job to a solver."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from operators.degradations.base import ForwardOperator
from operators.degradations.blur import MINIMAL_NOISE
from operators.degradations.denoise import Denoise
from operators.degradations.inpainting import Inpainting
from operators.errors import OperatorError
from operators.solvers.base import LatentPrior, StepSolver
from operators.solvers.ddim import leading_timesteps
from operators.solvers.dpir import Dpir
from operators.solvers.matched_denoise import MatchedDenoise
from operators.solvers.noise_levels import log_spaced_timesteps, pixel_sigmas
from operators.solvers.psld import Psld

Spec = Mapping[str, Any]

# Defaults of DPIR, on [-1, 1], tuned with the embedded model on photographs and film clips, none of them
# trained on. Interpolation and a smooth fill are good starts already, and entering far above their error
# throws detail away (noiseless x2 on film: 34.1 dB from 0.1, 33.9 from 0.2; boxes: 0.7 dB less from 1.2).
# Blur wants more.
SIGMA_HIGH = 0.3
SIGMA_HIGH_HOLES = 0.2
SIGMA_HIGH_SCALED = 0.1
# One round of mirror images. Noiseless x2 gains 0.25 dB over three steps without, x4 0.1 dB.
DPIR_STEPS = 4
# Ending at 0.035 instead changes less than 0.1 dB.
SIGMA_LOW = 0.05
# The paper's 0.23 is within 0.1 dB.
LAM = 0.1
# How far the last estimate may be off: noisy x2 on film gains 0.1 dB over no last prox, and noiseless
# data are reproduced.
SIGMA_FINAL = 0.05
# The gradient of a norm has unit length whatever the picture's size, so how far S steps can go is omega S,
# and how far they must go grows with the root of the number of measurements. This constant gives the paper's
# omega 1 for its own setting (512 px, x4, 1000 steps), and on the bundled clip (128 px, x2, noise 0.02, 50
# steps) a residual of 1.07 noise sigmas where omega 1 leaves 3.7.
PSLD_REACH = 4.5
PSLD_GLUE = 0.1
# Denoising in several steps ends here.
DENOISE_LOW = 0.05


def build_solver(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """The solver of ``spec`` for measurements of ``operator`` with noise ``sigma_y`` on [-1, 1].

    ``spec["name"]`` is one of

    * ``dpir``, for fidelity. ``steps`` at noise levels falling from ``sigma_high`` to ``sigma_low``,
      data weight 1 / ``lam``, and a last data prox that trusts the estimate to ``sigma_final``; all
      three are standard deviations on [-1, 1]. ``mirrored`` (on) shows the steps mirror images. When
      A = I it is ``MatchedDenoise`` and takes ``steps`` alone.
    * ``psld``, for posterior samples: ``steps``, ``omega`` (default ``PSLD_REACH`` sqrt(measurements) /
      steps), ``gamma`` (default ``PSLD_GLUE`` omega).

    Only the schedule and the noise gain of ``prior`` are read. Raises OperatorError naming the field.
    """
    name = spec.get("name")
    if name not in _BUILDERS:
        raise OperatorError(f"solver.name: {name!r} is unknown; use one of {', '.join(sorted(_BUILDERS))}")
    return _BUILDERS[name](spec, operator, sigma_y, prior)


def _psld(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    steps = _steps(spec, 50)
    measured = 3 * operator.height * operator.width // operator.scale**2
    omega = _positive(spec, "omega", PSLD_REACH * math.sqrt(measured) / steps)
    gamma = float(spec.get("gamma", PSLD_GLUE * omega))
    return Psld(operator, leading_timesteps(steps, len(prior.alphas_cumprod)), omega=omega, gamma=gamma)


def _dpir(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    sigmas = pixel_sigmas(prior)
    noise = max(sigma_y, MINIMAL_NOISE)
    if isinstance(operator, Denoise):
        low = min(noise, DENOISE_LOW)
        return MatchedDenoise(log_spaced_timesteps(sigmas, noise, low, _steps(spec, 1)), sigma_y)
    high = _positive(spec, "sigma_high", _entry(operator, noise))
    low = min(high, _positive(spec, "sigma_low", max(SIGMA_LOW, noise)))
    timesteps = log_spaced_timesteps(sigmas, high, low, _steps(spec, DPIR_STEPS))
    lam = _positive(spec, "lam", LAM)
    weights = tuple(float(sigmas[t]) ** 2 / (lam * noise**2) for t in timesteps)
    final = _positive(spec, "sigma_final", SIGMA_FINAL)
    mirrored = bool(spec.get("mirrored", True))
    return Dpir(operator, timesteps, weights, final_weight=(final / noise) ** 2, mirrored=mirrored)


def _entry(operator: ForwardOperator, noise: float) -> float:
    """Where the levels of DPIR begin. The paper ends at the noise of the measurement; entering at twice that
    level lets the network see it."""
    if operator.scale > 1:
        return max(SIGMA_HIGH_SCALED, 2.0 * noise)
    return max(SIGMA_HIGH_HOLES, 2.0 * noise) if isinstance(operator, Inpainting) else SIGMA_HIGH


def _steps(spec: Spec, default: int) -> int:
    steps = int(spec.get("steps", default))
    if steps < 1:
        raise OperatorError(f"solver.steps: {steps} is not above zero; the default is {default}")
    return steps


def _positive(spec: Spec, field: str, default: float) -> float:
    value = float(spec.get(field, default))
    if not value > 0.0:
        raise OperatorError(f"solver.{field}: {value} is not above zero; the default is {default}")
    return value


_BUILDERS: dict[str, Callable[[Spec, ForwardOperator, float, LatentPrior], StepSolver]] = {
    "dpir": _dpir,
    "psld": _psld,
}
