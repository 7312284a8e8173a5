"""From an estimate at one level to the latent of the next: the step rules that solvers are composed of.

All of them put a clean latent and noise together again; they differ in where the noise comes from.
Latents [B, C, h, w]; scalars are 0-dim tensors or floats.
"""

from __future__ import annotations

from torch import Tensor

from operators.solvers.base import Prediction
from operators.solvers.levels import Level


def recombine(z0: Tensor, eps: Tensor, there: Level) -> Tensor:
    """signal z0 + noise eps. On a diffusion it is DDIM with eta 0 (Song et al. 2021, eq. 12), on a flow the
    Euler step z + (s' - s) v."""
    return there.signal * z0 + there.noise * eps


def renoise(z0: Tensor, eps: Tensor, fresh: Tensor, there: Level, share: Tensor | float) -> Tensor:
    """signal z0 + noise (sqrt(1 - share^2) eps + share fresh): variance preserving for any ``share`` in
    [0, 1] of fresh noise.

    DDS, SVI and VISION-XL: share eta. TReg and DreamSampler: sqrt(ab'). FlowDPS: sqrt(1 - s').
    """
    kept = max(0.0, 1.0 - float(share) ** 2) ** 0.5
    return recombine(z0, kept * eps + share * fresh, there)


def ddim_share(here: Level, there: Level, eta: float) -> Tensor:
    """Share of fresh noise of DDIM(eta): eta sqrt((1 - ab / ab') / (1 - ab)) (Song et al. 2021, eq. 16)."""
    return eta * ((1.0 - here.ab / there.ab).clamp_min(0.0) / (1.0 - here.ab)).sqrt()


def ddim(prediction: Prediction, here: Level, there: Level, fresh: Tensor | None, eta: float) -> Tensor:
    """DDIM(eta); ``fresh`` is needed for eta above zero only. eta 1 is ancestral sampling."""
    if eta == 0.0 or fresh is None:
        return recombine(prediction.z0, prediction.eps, there)
    return renoise(prediction.z0, prediction.eps, fresh, there, ddim_share(here, there, eta))


def ancestral(z: Tensor, prediction: Prediction, here: Level, there: Level, fresh: Tensor | None) -> Tensor:
    """DDPM (Ho et al. 2020, eq. 6 and 7) from the network's own z0, which may have been clipped.

    ``fresh`` None takes the mean (the last step). Variance: the posterior's, or between it and beta where
    the network learned it (Nichol and Dhariwal 2021, eq. 15). Diffusion levels only.
    """
    ratio = here.ab / there.ab
    beta = 1.0 - ratio
    at_z0 = there.ab.sqrt() * beta / (1.0 - here.ab)
    at_z = ratio.sqrt() * (1.0 - there.ab) / (1.0 - here.ab)
    mean = at_z0 * prediction.z0 + at_z * z
    if fresh is None:
        return mean
    log_small = (beta * (1.0 - there.ab) / (1.0 - here.ab)).log()
    if prediction.variance_share is None:
        return mean + (0.5 * log_small).exp() * fresh
    share = (prediction.variance_share + 1.0) / 2.0
    return mean + (0.5 * (share * beta.log() + (1.0 - share) * log_small)).exp() * fresh


def lcm_denoised(z: Tensor, z0: Tensor, t: int, scaling: float = 10.0, data_std: float = 0.5) -> Tensor:
    """c_skip z + c_out z0, the boundary condition of latent consistency models (Luo et al. 2023, eq. 9):
    c_skip = d^2 / (s^2 + d^2), c_out = s / sqrt(s^2 + d^2), s = ``scaling`` t, d = ``data_std``."""
    s = scaling * t
    power = s**2 + data_std**2
    return data_std**2 / power * z + s / power**0.5 * z0
