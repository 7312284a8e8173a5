"""RIVAL's chain beside a reference (Zhang et al. 2023, "Real-World Image Variation by Aligning Diffusion
Inversion Chain", arXiv 2305.18729). What attention reads is `operators.style.readings.ReplaceThenConcat`.

Above ``until`` the predicted noise, after guidance, gets the per-channel statistics of the noise predicted
for the reference (section 3.3). Variations start from the reference's own inverted latent with its cells
permuted; edits of a frame from that of the frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from operators.noise import keyed_generator
from operators.solvers.base import LatentPrior, Prediction
from operators.solvers.levels import level
from operators.style.latent_adain import ChannelMoments, adain_latents, channel_moments
from operators.style.readings import RIVAL_ALIGN


@torch.no_grad()
def reference_noise(
    trajectory: Tensor, timesteps: tuple[int, ...], prior: LatentPrior, until: int = RIVAL_ALIGN
) -> dict[int, ChannelMoments]:
    """Statistics of the noise predicted along a reference's ``trajectory`` [S, 1, C, h, w], without guidance,
    at the timesteps above ``until``: once per job."""
    return {
        t: channel_moments(prior.predict(z, t).eps)
        for z, t in zip(trajectory, timesteps, strict=True)
        if t > until
    }


class NoiseAligned:
    """A prior whose noise has the statistics of the reference's where they are given; its clean estimate
    follows from the noise. Everything else is the wrapped (guided) prior's."""

    def __init__(self, prior: LatentPrior, moments: Mapping[int, ChannelMoments]) -> None:
        self._prior, self._moments = prior, moments

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)

    def predict(self, z: Tensor, t: int) -> Prediction:
        """The aligned prediction."""
        prediction = self._prior.predict(z, t)
        if t not in self._moments:
            return prediction
        at = level(self._prior, t)
        eps = adain_latents(prediction.eps, self._moments[t])
        return Prediction((z - at.noise * eps) / at.signal, eps, prediction.variance_share)


def permuted(z: Tensor, *key: int | str) -> Tensor:
    """Cells of ``z`` [B, C, h, w] in an order that ``key`` alone decides, the same for all channels and
    rows."""
    cells = z.flatten(2)
    order = torch.randperm(cells.shape[2], generator=keyed_generator(*key)).to(z.device)
    return cells[:, :, order].view_as(z)
