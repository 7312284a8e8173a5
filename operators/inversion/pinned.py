"""Editing with a pinned source row: Direct Inversion (Ju et al. 2024, arXiv 2310.01506) with the features of
Plug-and-Play (Tumanyan et al. 2023, arXiv 2211.12572).

The source is inverted once, with an empty prompt and sharing off. At every step its stored latent is shown to
the network beside the edit and never integrated, so the features that carry structure come from the exact
trajectory: the published form integrates it and adds the stored offset, which is the same. Queries, keys and
one residual feature of the source keep layout; values stay the edit's own, and carry appearance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from operators.attention.harvest import Harvest, Keep
from operators.attention.injection import Injection
from operators.attention.session import SharedAttention
from operators.errors import OperatorError
from operators.inversion.fixed_point import fixed_point_invert
from operators.inversion.path import along, rungs
from operators.solvers.base import LatentPrior, Prediction, State
from operators.solvers.step_rules import recombine

#: A change of a latent [B, C, h, w]; rows are independent.
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Inverted(State):
    """``trajectory`` [S, B, C, h, w] of the source, float32, on the sampler's timesteps."""

    trajectory: Tensor | None = None


@dataclass(frozen=True)
class SourceFeatures:
    """What the edit takes from its source, and for how long.

    In the self-attention ``layers`` the shares ``queries``, ``keys`` and ``values`` of the source's, for the
    share ``attention_until`` of all steps; the output of the blocks in ``residuals`` for ``residual_until``.
    """

    layers: frozenset[str] = frozenset()
    queries: float = 1.0
    keys: float = 1.0
    values: float = 0.0
    attention_until: float = 0.5
    residuals: frozenset[str] = frozenset()
    residual_until: float = 0.6

    def __post_init__(self) -> None:
        for name in ("queries", "keys", "values", "attention_until", "residual_until"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise OperatorError(f"{name}: {getattr(self, name)} is outside [0, 1]")

    def at(self, i: int, steps: int) -> SourceFeatures | None:
        """What is taken at step ``i``; None for nothing."""
        layers = self.layers if i < self.attention_until * steps else frozenset()
        residuals = self.residuals if i < self.residual_until * steps else frozenset()
        if not layers and not residuals:
            return None
        return replace(self, layers=layers, residuals=residuals)

    def harvested(
        self, z: Tensor, t: int, source: LatentPrior, session: SharedAttention
    ) -> tuple[Harvest, Prediction]:
        """Features of the source's latent ``z``, shown to the network alone, and its prediction."""
        keep = Keep(moments=False, norms=False, queries=bool(self.layers), residuals=self.residuals)
        found: list[Prediction] = []
        harvest = session.harvest(lambda: found.append(source.predict(z, t)), keep=keep)
        return harvest, found[0]

    def injection(self, source: Harvest) -> Injection:
        """``source`` put into the edit."""
        return Injection(source, self.layers, self.queries, self.keys, self.values, self.residuals)


def structure(layers: frozenset[str], residual: str, amount: float) -> SourceFeatures:
    """Plug-and-Play by one number: ``amount`` in [0, 1] of the structure is kept. 0 keeps none; 0.5, for
    attention in half of the steps and the residual in 0.6 of them, is the usual choice for styles."""
    if not 0.0 <= amount <= 1.0:
        raise OperatorError(f"structure: {amount} is outside [0, 1]")
    return SourceFeatures(
        layers,
        attention_until=amount,
        residuals=frozenset([residual]),
        residual_until=min(1.0, 1.2 * amount),
    )


def unchanged(z: Tensor) -> Tensor:
    """No change."""
    return z


def slerp(z: Tensor, other: Tensor, share: float) -> Tensor:
    """Spherical interpolation per row from ``z`` to ``other``, both about standard normal: a mix that keeps
    their norm. Shoemake 1985; for rows that are nearly parallel the straight line."""
    if share == 0.0:
        return z
    shape = (-1, *[1] * (z.dim() - 1))
    cosine = torch.nn.functional.cosine_similarity(z.flatten(1), other.flatten(1), dim=1)
    angle = cosine.clamp(-1, 1).acos().view(shape)
    sine = angle.sin()
    straight = sine < 1e-4
    sine = sine.clamp_min(1e-4)
    of_z = torch.where(straight, torch.full_like(sine, 1 - share), ((1 - share) * angle).sin() / sine)
    of_other = torch.where(straight, torch.full_like(sine, share), (share * angle).sin() / sine)
    return of_z * z + of_other * other


@dataclass(frozen=True)
class PinnedSource:
    """A StepSolver: DDIM from the inverted source, with ``features`` of the source at every step.

    ``source`` is the prior that inverts and tells the source (empty prompt, no guidance) and reports to
    ``session``. ``clean`` changes the clean latent before it is inverted (colours), ``noised`` the latent
    that sampling starts from (statistics); the source that features come from keeps the latter as it was.
    ``iterations`` above 1 refine the inversion, ``accelerated`` or not (see `fixed_point_invert`);
    ``noise_share`` of the frame's noise is mixed into the start, which inversion leaves too structured.
    """

    timesteps: tuple[int, ...]
    source: LatentPrior
    session: SharedAttention
    features: SourceFeatures
    iterations: int = 1
    accelerated: bool = False
    noise_share: float = 0.0
    clean: Change = field(default=unchanged)
    noised: Change = field(default=unchanged)

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> Inverted:
        z0 = self.clean(prior.encode(y))
        trajectory = fixed_point_invert(
            z0, self.timesteps, self.source, iterations=self.iterations, accelerated=self.accelerated
        )
        z = slerp(self.noised(trajectory[0]), noise.to(z0), self.noise_share)
        return Inverted(z=z, y=y, trajectory=trajectory)

    def step(self, i: int, state: Inverted, prior: LatentPrior) -> Inverted:
        """Source alone, then the edit under whatever attention the caller shares."""
        rung = rungs(prior, self.timesteps)[i]
        taken = self.features.at(i, len(self.timesteps))
        if taken is None:
            prediction = prior.predict(state.z, rung.t)
        else:
            harvest, _ = taken.harvested(state.trajectory[i], rung.t, self.source, self.session)
            with self.session.injecting(taken.injection(harvest)):
                prediction = prior.predict(state.z, rung.t)
        # Not from eps alone: control, fusion and CFG++ move the estimate and leave the noise.
        z = recombine(prediction.z0, prediction.eps, rung.lower)
        return replace(state, z=z, z0=prediction.z0)

    def finish(self, state: Inverted, prior: LatentPrior) -> Tensor:
        """Decode."""
        return prior.decode(state.z)


@torch.no_grad()
def direct_offsets(z0: Tensor, trajectory: Tensor, timesteps: tuple[int, ...], prior: LatentPrior) -> Tensor:
    """Direct Inversion as published: what has to be added to each DDIM step of the source [S, B, C, h, w] so
    that it meets its trajectory; ``prior`` may be guided by any weight. For comparison: reading the stored
    latents needs none of these evaluations."""
    below = [*trajectory[1:], z0]
    steps = zip(rungs(prior, timesteps), trajectory, below, strict=True)
    return torch.stack(
        [wanted - along(z, prior.predict(z, rung.t).eps, rung.upper, rung.lower) for rung, z, wanted in steps]
    )
