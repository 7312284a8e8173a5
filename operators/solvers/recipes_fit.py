"""From the ``solver`` mapping of a job to the solvers that fit the measurement outside the network."""

from __future__ import annotations

from dataclasses import replace

from operators.degradations.base import ForwardOperator
from operators.degradations.denoise import Denoise
from operators.degradations.inpainting import Inpainting
from operators.degradations.jpeg import Jpeg
from operators.degradations.noise_models import MINIMAL_NOISE
from operators.degradations.quantisation import Quantisation
from operators.degradations.video_inpainting import VideoInpainting
from operators.errors import OperatorError
from operators.noise import keyed_normal
from operators.solvers.base import LatentPrior, StepSolver
from operators.solvers.ddim import leading_timesteps
from operators.solvers.ddnm import Ddnm
from operators.solvers.diffpir import DiffPir
from operators.solvers.dpir import Dpir
from operators.solvers.dreamsampler import DreamSampler
from operators.solvers.fields import Spec, positive, share, weight, whole
from operators.solvers.latino import EIGHT_STEPS, FOUR_STEPS, Latino
from operators.solvers.matched_denoise import MatchedDenoise
from operators.solvers.noise_levels import log_spaced_timesteps, pixel_sigmas
from operators.solvers.recipes_gradient import framed, strength, warm
from operators.solvers.reencode import NormalFit
from operators.solvers.svi import Svi
from operators.solvers.treg import TReg
from operators.solvers.video_latent import VideoLatent

# Defaults of DPIR, on [-1, 1], tuned with the embedded model on photographs and film clips, none of them
# trained on. Interpolation and a smooth fill are good starts already, and entering far above their error
# throws detail away (noiseless x2 on film: 34.1 dB from 0.1, 33.9 from 0.2; boxes: 0.7 dB less from 1.2).
# Blur wants more.
SIGMA_HIGH = 0.3
SIGMA_HIGH_HOLES = 0.2
SIGMA_HIGH_SCALED = 0.1
# Codecs and coarse levels say within which cell a coefficient lies. One film frame in JPEG 15, 40 and 75 ends
# at 28.2, 30.8 and 33.4 dB from here, at 27.8, 30.5 and 33.3 from 0.3; in six levels at 29.2 and 28.7.
SIGMA_HIGH_CELLS = 0.1
# One round of mirror images. Noiseless x2 gains 0.25 dB over three steps without, x4 0.1 dB.
DPIR_STEPS = 4
# Ending at 0.035 instead changes less than 0.1 dB.
SIGMA_LOW = 0.05
# The paper's 0.23 is within 0.1 dB.
LAM = 0.1
# How far the last estimate may be off: noisy x2 on film gains 0.1 dB over no last prox, and noiseless
# data are reproduced.
SIGMA_FINAL = 0.05
# Denoising in several steps ends here.
DENOISE_LOW = 0.05
#: Pseudo-inverses that amplify noise more than this are of no use to DDNM.
LARGEST_GAIN = 2.0
#: The last share of the steps does without data steps, as published.
DATA_SHARE = 0.85


def dpir(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """``steps`` at noise levels falling from ``sigma_high`` to ``sigma_low``, data weight 1 / ``lam``, a last
    data prox that trusts the estimate to ``sigma_final`` (standard deviations on [-1, 1]); ``mirrored`` (on)
    shows the steps mirror images. When A = I it is ``MatchedDenoise`` and takes ``steps`` alone."""
    sigmas = pixel_sigmas(prior)
    noise = max(sigma_y, MINIMAL_NOISE)
    if isinstance(operator, Denoise):
        low = min(noise, DENOISE_LOW)
        return MatchedDenoise(log_spaced_timesteps(sigmas, noise, low, whole(spec, "steps", 1)), sigma_y)
    high = positive(spec, "sigma_high", _entry(operator, noise))
    low = min(high, positive(spec, "sigma_low", max(SIGMA_LOW, noise)))
    timesteps = log_spaced_timesteps(sigmas, high, low, whole(spec, "steps", DPIR_STEPS))
    lam = positive(spec, "lam", LAM)
    weights = tuple(float(sigmas[t]) ** 2 / (lam * noise**2) for t in timesteps)
    final = positive(spec, "sigma_final", SIGMA_FINAL)
    mirrored = bool(spec.get("mirrored", True))
    return Dpir(operator, timesteps, weights, final_weight=(final / noise) ** 2, mirrored=mirrored)


def _entry(operator: ForwardOperator, noise: float) -> float:
    """Where the levels of DPIR begin. The paper ends at the noise of the measurement; entering at twice that
    level lets the network see it."""
    if operator.scale > 1:
        return max(SIGMA_HIGH_SCALED, 2.0 * noise)
    if isinstance(operator, Jpeg | Quantisation):
        return SIGMA_HIGH_CELLS
    holes = isinstance(operator, Inpainting | VideoInpainting)
    return max(SIGMA_HIGH_HOLES, 2.0 * noise) if holes else SIGMA_HIGH


def treg(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """``steps``, ``every`` and ``until`` which of them is fitted, ``lam`` and ``iterations`` of the conjugate
    gradients, ``strength``, ``last_fit``."""
    timesteps = _timesteps(spec, prior, 30)
    fit = _fit(spec, operator, sigma_y, iterations=5)
    solver = TReg(fit, timesteps, whole(spec, "every", 3), _until(spec, timesteps))
    return framed(spec, solver, operator, sigma_y)


def dreamsampler(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """As `treg`; between the fits it takes gradient steps, and fills holes with the prompt's idea of them."""
    timesteps = _timesteps(spec, prior, 30)
    fit = _fit(spec, operator, sigma_y, iterations=10)
    every = whole(spec, "every", 3)
    solver = DreamSampler(fit, timesteps, every, _until(spec, timesteps))
    return framed(spec, solver, operator, sigma_y)


def diffpir(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """``steps``, ``lam``, ``zeta``, ``strength``."""
    solver = DiffPir(
        operator,
        _timesteps(spec, prior, 20),
        max(sigma_y, MINIMAL_NOISE),
        positive(spec, "lam", 1.0),
        share(spec, "zeta", 0.3),
    )
    return warm(spec, solver, operator)


def ddnm(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """``steps``, ``eta``, ``strength``."""
    gain = pinv_gain(operator) if sigma_y > 0.0 else 1.0
    if gain > LARGEST_GAIN:
        raise OperatorError(
            f"solver.name: ddnm would amplify the noise {gain:.0f} times, for its pseudo-inverse does; "
            "use diffpir or dpir, which weigh the noise"
        )
    solver = Ddnm(operator, _timesteps(spec, prior, 20), sigma_y, share(spec, "eta", 0.85), gain)
    return framed(spec, solver, operator, sigma_y)


def latino(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """``steps`` 4 or 8 (the released grids), ``delta`` of the prox."""
    grids = {4: FOUR_STEPS, 8: EIGHT_STEPS}
    steps = whole(spec, "steps", 8)
    timesteps = grids.get(steps) or leading_timesteps(steps, len(prior.alphas_cumprod))
    deltas = (positive(spec, "delta", 1.0),) * len(timesteps)
    return Latino(operator, timesteps, deltas, max(sigma_y, MINIMAL_NOISE))


def video_latent(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """``steps``, ``every``, ``lam``, ``eta`` the share of fresh noise, ``strength``; ``flows`` of the clip, a
    `ClipFlows`, and ``flow``, the weight of their loss. Every frame starts from its own inversion."""
    noise = max(sigma_y, MINIMAL_NOISE)
    return VideoLatent(
        operator,
        _timesteps(spec, prior, 20),
        noise,
        final_weight=(SIGMA_FINAL / noise) ** 2,
        lam=positive(spec, "lam", 1.0),
        eta=share(spec, "eta", 0.2),
        every=whole(spec, "every", 1),
        flows=spec.get("flows"),
        flow_weight=weight(spec, "flow", 0.1),
        classical_start=strength(spec) < 1.0,
    )


def svi(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """``steps``, ``eta`` the share of fresh noise, ``lam`` and ``iterations`` of the conjugate gradients,
    ``strength``. The paper's ``lam`` is 0, for data without noise."""
    fit = _fit(spec, operator, sigma_y, iterations=5)
    joint = replace(fit, joint=operator.couples_frames)
    solver = Svi(joint, _timesteps(spec, prior, 20), share(spec, "eta", 0.15))
    return warm(spec, solver, operator)


def pinv_gain(operator: ForwardOperator) -> float:
    """Standard deviation of A^+ n for white n of unit standard deviation, measured once on keyed noise."""
    shape = (operator.frames or 1, *operator.measured_shape)
    return float(operator.pinv(keyed_normal(shape, "pinv gain")).std())


def _timesteps(spec: Spec, prior: LatentPrior, steps: int) -> tuple[int, ...]:
    return leading_timesteps(whole(spec, "steps", steps), len(prior.alphas_cumprod), strength(spec))


def _until(spec: Spec, timesteps: tuple[int, ...]) -> int:
    return whole(spec, "until", max(1, round(DATA_SHARE * len(timesteps))), low=0)


def _fit(spec: Spec, operator: ForwardOperator, sigma_y: float, iterations: int) -> NormalFit:
    # sigma_y^2 relative to the variance of an estimate's error on [-1, 1], near 0.01; the paper's 1e-4 is
    # for noiseless data.
    lam = weight(spec, "lam", max(1e-4, 100.0 * sigma_y**2))
    return NormalFit(operator, lam, whole(spec, "iterations", iterations))
