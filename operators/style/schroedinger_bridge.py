"""Latent Schroedinger Bridge (Kim, Kim and Ye 2024, arXiv 2411.14863), from its equations.

A bridge from a source to a target domain, x_s = (1 - s) x_0 + s x_1 + tau sqrt(s (1 - s)) n, has the
probability flow dx/ds = E[x_1 | x] - E[x_0 | x] + tau (1 - 2 s) / (2 sqrt(s (1 - s))) E[n | x]. The three
predictors come from one diffusion under two prompts: at equal signal-to-noise ratio, ab = 1 / (1 + tau^2 s
(1 - s)), sqrt(ab) x is a latent of the diffusion, its estimate under the source prompt stands for x_0, that
under the target for x_1.

As in the released code: levels are matched by their signal-to-noise ratio, the noise is the source's in the
first half and the target's in the second, and the defaults are its own. Our reading: networks are asked at
the nearest timestep; the run ends with the target's estimate. The prompts' optimisation is textual
inversion and is not part of this. As levels rise before they fall, no style trajectory can be replayed
beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from operators.errors import OperatorError
from operators.solvers.base import LatentPrior, State
from operators.solvers.levels import level, prior_kind

#: Noise of the bridge, where it begins, and the weight of the difference of the two estimates.
TAU, BEGIN, WEIGHT = 2.3, 0.2, 11.0


@dataclass(frozen=True)
class OnBridge(State):
    """``x`` of the state is the point on the bridge, a latent [B, C, h, w]; ``z`` what the network sees."""


@dataclass(frozen=True)
class LatentBridge:
    """A StepSolver on bridge ``times`` rising in (0, 1), the network told ``timesteps``; see `latent_bridge`.
    ``source`` tells the source domain."""

    timesteps: tuple[int, ...]
    times: tuple[float, ...]
    source: LatentPrior
    tau: float = TAU
    weight: float = WEIGHT

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> OnBridge:
        """The source, scaled and noised as at ``times[0]``; its target is not known yet, so its own estimate
        stands for it (our reading; the released code leaves it out)."""
        z0, s = prior.encode(y), self.times[0]
        x = z0 + self.tau * (s * (1 - s)) ** 0.5 * noise
        return OnBridge(z=self._seen(x, 0, prior), y=y, x=x)

    def step(self, i: int, state: OnBridge, prior: LatentPrior) -> OnBridge:
        """An Euler step along the bridge; the last step takes the target's estimate."""
        t, s = self.timesteps[i], self.times[i]
        target = prior.predict(state.z, t)
        if i + 1 == len(self.timesteps):
            return replace(state, z=target.z0, z0=target.z0)
        with torch.no_grad():
            source = self.source.predict(state.z, t)
        eps = source.eps if s <= 0.5 else target.eps
        widening = self.tau * (1 - 2 * s) / (2 * (s * (1 - s)) ** 0.5)
        flow = self.weight * (target.z0 - source.z0) + widening * eps
        x = state.x + (self.times[i + 1] - s) * flow
        return replace(state, z=self._seen(x, i + 1, prior), x=x, z0=target.z0)

    def _seen(self, x: Tensor, i: int, prior: LatentPrior) -> Tensor:
        return level(prior, self.timesteps[i]).signal * x

    def finish(self, state: OnBridge, prior: LatentPrior) -> Tensor:
        """The target's last estimate, decoded."""
        return prior.decode(state.z0)


def latent_bridge(
    prior: LatentPrior,
    source: LatentPrior,
    steps: int,
    *,
    tau: float = TAU,
    begin: float = BEGIN,
    weight: float = WEIGHT,
) -> LatentBridge:
    """``steps`` network steps from ``begin`` on, at equal distances, each at the timestep whose level is the
    nearest. Raises OperatorError for a begin outside (0, 1) or a prior that is no diffusion."""
    if prior_kind(prior) == "flow":
        raise OperatorError("latent_bridge: needs a diffusion model, and this one is a flow")
    if not 0.0 < begin < 1.0 or steps < 2:
        raise OperatorError(f"latent_bridge: begin {begin} with {steps} steps; use (0, 1) and at least 2")
    edges = torch.linspace(begin, 1.0, steps + 1, dtype=torch.float64)
    times = tuple(float(a) for a, _ in pairwise(edges))
    table = prior.alphas_cumprod.double().cpu()
    timesteps = tuple(
        int((table.log() + torch.log1p(torch.tensor(tau**2 * s * (1 - s)))).abs().argmin()) for s in times
    )
    return LatentBridge(timesteps, times, source, tau, weight)
