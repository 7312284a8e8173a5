"""Edit-friendly DDPM inversion (Huberman-Spiegelglas, Kulikov and Michaeli 2024, arXiv 2304.06140).

The source's states are drawn independently at every level, z_t = signal z0 + noise n_t, and what ancestral
sampling would have to add to get from one to the next, z_s - mu(z_t), is added to the edited latent as well.
With equal prompts both walk the same path, and end at the source.

We keep z_s - mu itself rather than the noise map (z_s - mu) / sigma: it is the same edit, exact to the last
step (the released code zeroes the last map and loses that) and defined where sigma vanishes. The map is made
beside the edit, step by step, so nothing is stored. ``chain`` "posterior" is CycleDiffusion (Wu and De la
Torre 2023, arXiv 2210.05559): z_s from q(z_s | z_t, z0) instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from operators.errors import OperatorError
from operators.inversion.path import Rung, rungs
from operators.solvers.base import LatentPrior, Prediction, State
from operators.solvers.levels import level, prior_kind
from operators.solvers.step_rules import recombine


@dataclass(frozen=True)
class BesideSource(State):
    """``z`` of the edit, ``source`` at the same level, and the clean ``z0`` of the source."""

    source: Tensor | None = None


def deviation(rung: Rung, eta: float) -> Tensor:
    """sigma_t = eta sqrt((1 - ab_s) / (1 - ab_t) (1 - ab_t / ab_s)) (Song et al. 2021, eq. 16)."""
    ratio = (1 - rung.lower.ab) / (1 - rung.upper.ab) * (1 - rung.upper.ab / rung.lower.ab)
    return eta * ratio.clamp_min(0).sqrt()


def mean(z0: Tensor, eps: Tensor, rung: Rung, eta: float) -> Tensor:
    """mu_t = sqrt(ab_s) z0 + sqrt(1 - ab_s - sigma_t^2) eps."""
    rest = (rung.lower.noise.square() - deviation(rung, eta).square()).clamp_min(0).sqrt()
    return rung.lower.signal * z0 + rest * eps


@dataclass(frozen=True)
class EditFriendly:
    """A StepSolver. ``source`` is the prior that tells the source (empty prompt, or its caption), apart from
    any attention that the edit shares. Draws are those of the state's source of noise: share them among the
    frames of a scene, otherwise the maps flicker. ``eta`` in (0, 1]."""

    timesteps: tuple[int, ...]
    source: LatentPrior
    eta: float = 1.0
    chain: Literal["independent", "posterior"] = "independent"

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> BesideSource:
        """Raises OperatorError for flows, which have no ancestral sampler here."""
        if prior_kind(prior) == "flow":
            raise OperatorError(
                "edit_friendly: needs a diffusion model, and this one is a flow; use flow_edit"
            )
        z0 = prior.encode(y)
        z = recombine(z0, noise, level(prior, self.timesteps[0]))
        return BesideSource(z=z, y=y, z0=z0, source=z)

    def step(self, i: int, state: BesideSource, prior: LatentPrior) -> BesideSource:
        """Edit and source go down one level by what the source's own mean leaves open."""
        rung = rungs(prior, self.timesteps)[i]
        with torch.no_grad():
            told = self.source.predict(state.source, rung.t)
        found = prior.predict(state.z, rung.t)
        of_source = self._mean(told, rung)
        missing = self._source_below(i, state, rung) - of_source
        # Both by the same additions: with equal predictions both stay equal to the last bit.
        return replace(state, z=self._mean(found, rung) + missing, source=of_source + missing)

    def _mean(self, prediction: Prediction, rung: Rung) -> Tensor:
        return mean(prediction.z0, prediction.eps, rung, self.eta)

    def _source_below(self, i: int, state: BesideSource, rung: Rung) -> Tensor:
        """The source at the next level; after the last step the source itself."""
        if i + 1 == len(self.timesteps):
            return state.z0
        fresh = state.normal(i + 1, "map")
        if self.chain == "independent":
            return recombine(state.z0, fresh, rung.lower)
        eps = (state.source - rung.upper.signal * state.z0) / rung.upper.noise
        return mean(state.z0, eps, rung, self.eta) + deviation(rung, self.eta) * fresh

    def finish(self, state: BesideSource, prior: LatentPrior) -> Tensor:
        """Decode."""
        return prior.decode(state.z)
