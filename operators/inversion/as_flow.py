"""A diffusion seen as the rectified flow of equal signal-to-noise ratio (Kingma et al. 2021: they differ by a
factor of the latent alone), so that flow methods run on any checkpoint."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from operators.solvers.base import LatentPrior, Prediction
from operators.solvers.levels import diffusion_level, level_of_alpha


class AsFlow:
    """Latents are (1 - s) z0 + s eps at the timestep's own ratio; everything else is the wrapped prior's."""

    kind = "flow"

    def __init__(self, prior: LatentPrior) -> None:
        self._prior = prior

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)

    def predict(self, z: Tensor, t: int) -> Prediction:
        """The wrapped prior's estimate and noise, of the latent in its own scale."""
        ab = self._prior.alphas_cumprod[t]
        return self._prior.predict(z / level_of_alpha(self, ab).signal * diffusion_level(ab).signal, t)
