"""From the ``solver`` mapping of a job to the solvers that take gradients through the operator.

Defaults are the papers' where steps allow: from pure noise, without a last fit. Job files default to entering
lower (``strength``) and to a last fit (``last_fit``); see `jobs.enhance_spec`.
"""

from __future__ import annotations

import math

import torch

from operators.degradations.base import ForwardOperator
from operators.degradations.noise_models import MINIMAL_NOISE, PoissonNoise
from operators.solvers.base import LatentPrior, StepSolver
from operators.solvers.blind_dps import BlindDps
from operators.solvers.ddim import leading_timesteps
from operators.solvers.fields import Spec, choice, positive, share, weight, whole
from operators.solvers.flowchef import FlowChef
from operators.solvers.flowdps import FlowDps
from operators.solvers.gradient_memory import rows_within
from operators.solvers.last_fit import LastFit
from operators.solvers.ldps import Ldps
from operators.solvers.likelihoods import LIKELIHOODS, Likelihood
from operators.solvers.psld import Psld
from operators.solvers.reddiff import RedDiff
from operators.solvers.resample import ReSample
from operators.solvers.stsl import Stsl
from operators.solvers.warm_start import WarmStart

# The gradient of a norm has unit length whatever the picture's size, so how far S steps can go is omega S,
# and how far they must go grows with the root of the number of measurements. This constant gives the paper's
# omega 1 for its own setting (512 px, x4, 1000 steps), and on the bundled clip (128 px, x2, noise 0.02, 50
# steps) a residual of 1.07 noise sigmas where omega 1 leaves 3.7.
PSLD_REACH = 4.5
PSLD_GLUE = 0.1
# Shares of that length, tuned on one photograph (128 px, x2, noise 0.05, 20 of 50 steps). Without the
# Jacobian nothing damps the gradient: 24.2 dB at a whole length, 25.5 at half, 26.1 at a quarter. ReSample
# gets 23.4 dB with the paper's 1 (a tenth) and a fit every 10 steps, 25.7 with half a length and every 4.
NOJAC_REACH = 0.25
RESAMPLE_REACH = 0.5
# How far a sampler's picture may be off before its last fit, on [-1, 1], as for DPIR.
FINAL_SIGMA = 0.05


def psld(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """``steps``, ``omega`` (default `PSLD_REACH` sqrt(measurements) / steps), ``gamma`` (`PSLD_GLUE` omega),
    ``strength``, ``rows``."""
    timesteps = _timesteps(spec, 50, prior)
    omega = positive(spec, "omega", _step_length(spec, 50, operator))
    gamma = weight(spec, "gamma", PSLD_GLUE * omega)
    solver = Psld(operator, timesteps, omega, gamma, _rows(spec, operator, prior))
    return framed(spec, solver, operator, sigma_y)


def ldps(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """``steps``, ``scale`` (default as ``omega`` of PSLD), ``eta`` of DDIM, ``likelihood``, ``strength``,
    ``rows``."""
    return _ldps(spec, operator, sigma_y, prior, jacobian=True)


def dps_nojac(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """As `ldps`, without the network's Jacobian."""
    return _ldps(spec, operator, sigma_y, prior, jacobian=False)


def _ldps(
    spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior, *, jacobian: bool
) -> StepSolver:
    timesteps = _timesteps(spec, 50, prior)
    reach = 1.0 if jacobian else NOJAC_REACH
    solver = Ldps(
        operator,
        timesteps,
        scale=positive(spec, "scale", reach * _step_length(spec, 50, operator)),
        eta=share(spec, "eta", 0.0),
        likelihood=_likelihood(spec, operator),
        jacobian=jacobian,
        rows=_rows(spec, operator, prior),
    )
    return framed(spec, solver, operator, sigma_y)


def stsl(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """``steps``, ``averages``, ``eta`` of the second-order term, ``probe`` its step, ``weight`` of the data
    (default `PSLD_REACH` sqrt(measurements) / (steps averages)), ``strength``, ``rows``."""
    timesteps = _timesteps(spec, 20, prior)
    averages = whole(spec, "averages", 5)
    solver = Stsl(
        operator,
        timesteps,
        weight=positive(spec, "weight", _step_length(spec, 20, operator) / averages),
        eta=weight(spec, "eta", 0.02),
        averages=averages,
        probe_size=positive(spec, "probe", 1.0),
        likelihood=_likelihood(spec, operator),
        forward=choice(spec, "forward", ("inversion", "noised", "random"), "inversion"),
        classical_start=strength(spec) < 1.0,
        rows=_rows(spec, operator, prior),
    )
    return fitted_last(spec, solver, operator, sigma_y)


def resample(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """``steps``, ``every`` how many steps a hard fit comes, ``travel`` steps before it, ``scale`` of the DPS
    term, ``strength``, ``rows``. Fits stop at the noise of the measurement."""
    solver = ReSample(
        operator,
        _timesteps(spec, 50, prior),
        every=whole(spec, "every", 10),
        travel=whole(spec, "travel", 0, low=0),
        scale=weight(spec, "scale", RESAMPLE_REACH * _step_length(spec, 50, operator)),
        goal=max(1e-6, sigma_y**2),
        latent_iterations=20,
        latent_rate=2e-2,
        rows=_rows(spec, operator, prior),
    )
    return framed(spec, solver, operator, sigma_y)


def reddiff(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """``steps``, ``rate`` of Adam in latent units, ``prior_weight``, ``strength``, ``rows``."""
    solver = RedDiff(
        operator,
        _timesteps(spec, 50, prior),
        rate=positive(spec, "rate", 0.02),
        prior_weight=weight(spec, "prior_weight", 0.25),
        rows=_rows(spec, operator, prior),
        classical_start=strength(spec) < 1.0,
    )
    return fitted_last(spec, solver, operator, sigma_y)


def blind_dps(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """``steps``, ``scale`` (default as PSLD's omega), ``kernel_rate`` (0: the kernel is known), ``shared``,
    ``strength``. The operator's kernel is the first guess, which is refined beside the picture: for all rows
    together where it is ``shared``, else for each row on its own."""
    kernel = torch.as_tensor(operator.kernel).float()[None, None]
    timesteps = _timesteps(spec, 50, prior)
    solver = BlindDps(
        timesteps,
        kernel,
        # Nothing fits the result to the measurement at last, for the kernel is not known: shorter steps.
        scale=positive(spec, "scale", 0.3 * _step_length(spec, 50, operator)),
        kernel_rate=weight(spec, "kernel_rate", 1e-5),
        shared=bool(spec.get("shared", False)),
        border=operator.padding,
    )
    return warm(spec, solver, operator)


def flowchef(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """``steps``, ``rate``, ``inner`` gradient steps, ``strength``, ``rows``. Moves of a stated length, as our
    other samplers make, in place of the authors' squares, whose rate depends on the decoder."""
    timesteps, inner = _timesteps(spec, 50, prior), whole(spec, "inner", 1)
    rate = positive(spec, "rate", _step_length(spec, 50, operator) / inner)
    solver = FlowChef(
        operator, timesteps, rate, inner, _likelihood(spec, operator), _rows(spec, operator, prior)
    )
    return framed(spec, solver, operator, sigma_y)


def flowdps(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """``steps``, ``rate``, ``inner`` gradient steps, ``strength``, ``rows``."""
    timesteps = _timesteps(spec, 28, prior)
    rate = positive(spec, "rate", 15.0)
    solver = FlowDps(operator, timesteps, rate, whole(spec, "inner", 3), _rows(spec, operator, prior))
    return framed(spec, solver, operator, sigma_y)


def framed(spec: Spec, solver: StepSolver, operator: ForwardOperator, sigma_y: float) -> StepSolver:
    """A sampler with its warm start and its last fit."""
    return fitted_last(spec, warm(spec, solver, operator), operator, sigma_y)


def fitted_last(spec: Spec, solver: StepSolver, operator: ForwardOperator, sigma_y: float) -> StepSolver:
    """``solver``, with a last prox where ``last_fit`` is on and every measured value counts."""
    fits = operator.has_pinv if operator.has_prox else operator.differentiable and operator.complete
    if not (spec.get("last_fit", False) and fits):
        return solver
    return LastFit(solver, operator, (FINAL_SIGMA / max(sigma_y, MINIMAL_NOISE)) ** 2)


def strength(spec: Spec) -> float:
    """Which last share of the schedule is walked: 1, as published, unless a job enters lower."""
    return float(spec.get("strength", 1.0))


def warm(spec: Spec, solver: StepSolver, operator: ForwardOperator) -> StepSolver:
    """``solver``, begun at the noised classical restoration where ``strength`` is below 1."""
    if strength(spec) == 1.0:
        return solver
    return WarmStart(solver, operator)


def _timesteps(spec: Spec, steps: int, prior: LatentPrior) -> tuple[int, ...]:
    return leading_timesteps(whole(spec, "steps", steps), len(prior.alphas_cumprod), strength(spec))


def _likelihood(spec: Spec, operator: ForwardOperator) -> Likelihood:
    counts = isinstance(operator.noise_model, PoissonNoise)
    return LIKELIHOODS[choice(spec, "likelihood", LIKELIHOODS, "poisson" if counts else "gaussian")]


def _step_length(spec: Spec, steps: int, operator: ForwardOperator) -> float:
    """What a sampler of unit-length gradients goes per step of its full schedule."""
    return PSLD_REACH * math.sqrt(math.prod(operator.measured_shape)) / whole(spec, "steps", steps)


def _rows(spec: Spec, operator: ForwardOperator, prior: LatentPrior) -> int:
    """Frames differentiated at once: ``rows``, else as many as `GRADIENT_BUDGET` holds. An operator made for
    a clip takes it whole."""
    if operator.couples_frames or operator.frames is not None:
        return 0
    return whole(spec, "rows", 0, low=0) or rows_within(prior, operator)
