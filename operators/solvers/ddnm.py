"""DDNM and DDNM+ (Wang, Yu and Zhang 2023, "Zero-Shot Image Restoration Using Denoising Diffusion
Null-Space Model", arXiv 2212.00490), the range-space correction taken in pixels and re-encoded."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.solvers.base import LatentPrior, State
from operators.solvers.levels import Level, level, next_level
from operators.solvers.step_rules import ddim_share


@dataclass(frozen=True)
class Ddnm:
    """x = D(z0) - lam A^+ (A D(z0) - y), then DDIM(``eta``) from E(x).

    Noiseless: lam 1, DDNM. For ``sigma_y`` above zero (on [-1, 1]) the isotropic rule of DDNM+ (section 3.3):
    lam scales the correction down where y's noise would exceed the step's own, and the fresh noise is reduced
    by what the correction brings along: y's noise through A^+ (``pinv_gain``, the growth of its standard
    deviation) and through the encoder (the prior's noise gain).
    """

    operator: ForwardOperator
    timesteps: tuple[int, ...]
    sigma_y: float = 0.0
    eta: float = 0.85
    pinv_gain: float = 1.0

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        return State(z=noise, y=self.operator.restrict(y))

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        here, there = level(prior, self.timesteps[i]), next_level(prior, self.timesteps, i)
        prediction = prior.predict(state.z, self.timesteps[i])
        estimate = prior.decode(prediction.z0)
        lam, fresh_std = self.noise_split(here, there, prior.noise_gain)
        x = estimate - lam * self.operator.pinv(self.operator.apply(estimate) - state.y)
        z0 = prior.encode(x)
        if i + 1 == len(self.timesteps):
            return replace(state, z=z0, x=x, z0=z0)
        kept = (there.noise.square() - self._fresh_std(here, there).square()).clamp_min(0.0).sqrt()
        moved = there.signal * z0 + kept * prediction.eps + fresh_std * state.normal(i, "renoise")
        return replace(state, z=moved, x=x, z0=z0)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        assert state.x is not None
        return state.x

    def noise_split(self, here: Level, there: Level, gain: float) -> tuple[float, float]:
        """(lam, standard deviation of the fresh noise) of one step."""
        total = float(self._fresh_std(here, there))
        carried = float(there.signal) * gain * self.pinv_gain * self.sigma_y
        if carried <= 0.0:
            return 1.0, total
        lam = min(1.0, total / carried)
        return lam, max(total**2 - (lam * carried) ** 2, 0.0) ** 0.5

    def _fresh_std(self, here: Level, there: Level) -> Tensor:
        """Standard deviation of the noise that DDIM(eta) adds."""
        return ddim_share(here, there, self.eta) * there.noise
