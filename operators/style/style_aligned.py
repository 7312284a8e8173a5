"""Stylization by DDIM inversion and attention shared with the style (StyleAligned, Hertz et al. 2024).

The frame's clean latent first takes the colour statistics of the style (one map per scene), is inverted with
sharing off, and sampled again from ``timesteps[0]`` while its self-attention also reads the replayed
trajectory of the style reference. The sharing itself is `operators.attention.reading`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from operators.inversion.ddim import ddim_invert
from operators.solvers.base import LatentPrior, State
from operators.solvers.ddim import ddim_step, next_alpha
from operators.style.transport import LatentStatistics, latent_statistics, transport


@dataclass(frozen=True)
class StyleReference:
    """A style picture, once per job: its inversion trajectory [S, C, h, w] on the sampler's timesteps and
    the statistics of its clean latent."""

    trajectory: Tensor
    statistics: LatentStatistics

    @property
    def parts(self) -> tuple[tuple[Tensor, float], ...]:
        """Trajectories and their weights, as replays want them: one of weight 1."""
        return ((self.trajectory, 1.0),)


def style_reference(picture: Tensor, timesteps: tuple[int, ...], prior: LatentPrior) -> StyleReference:
    """Invert a style picture [1, 3, H, W] in [-1, 1]; ``prior`` with an empty prompt and no guidance."""
    z0 = prior.encode(picture)
    return StyleReference(ddim_invert(z0, timesteps, prior)[:, 0], latent_statistics(z0))


@dataclass(frozen=True)
class StyleAligned:
    """A StepSolver. ``content`` are the statistics of the scene's anchors (None: of the batch itself);
    ``statistics_weight`` in [0, 1] is how far colours go towards the style.

    ``inversion`` is the prior with an empty prompt and no guidance: guided inversion does not return to
    where it came from.
    """

    timesteps: tuple[int, ...]
    inversion: LatentPrior
    style: StyleReference
    content: LatentStatistics | None
    statistics_weight: float

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        """Encode, transport, invert. Deterministic: ``noise`` is not used."""
        z0 = prior.encode(y)
        content = self.content or latent_statistics(z0)
        z0 = transport(z0, content, self.style.statistics, self.statistics_weight)
        return State(z=ddim_invert(z0, self.timesteps, self.inversion)[0], y=y)

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        """One DDIM step (eta 0) under whatever attention the caller shares."""
        prediction = prior.predict(state.z, self.timesteps[i])
        return State(z=ddim_step(prediction, next_alpha(prior, self.timesteps, i)), y=state.y)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        """Decode."""
        return prior.decode(state.z)
