"""A pixel-space diffusion as a prior whose autoencoder is the identity: DPS, BlindDPS, SVI and RED-diff as
they were published run on it with the same solvers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from operators.solvers.base import Prediction
from operators.solvers.levels import diffusion_level
from operators.solvers.parametrisation import from_epsilon


@dataclass(frozen=True)
class PixelPrior:
    """``network`` (x, original timestep) -> eps [B, C, H, W], or [B, 2 C, H, W] with the learned variance
    behind (ADM, Dhariwal and Nichol 2021).

    ``alphas_cumprod``: of the respaced process, entry i for timestep i, ``timestep_map[i]`` what the network
    is told (None: i itself). ``clip``: clamp x0 to [-1, 1], differentiably, as ADM samplers do.
    """

    network: Callable[[Tensor, int], Tensor]
    alphas_cumprod: Tensor
    final_alpha_cumprod: Tensor
    timestep_map: tuple[int, ...] | None = None
    clip: bool = True
    noise_gain: float = 1.0
    complement: None = None

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Tensor:
        return z

    def predict(self, z: Tensor, t: int) -> Prediction:
        told = t if self.timestep_map is None else self.timestep_map[t]
        output = self.network(z, told)
        eps, share = output, None
        if output.shape[1] == 2 * z.shape[1]:
            eps, share = output.chunk(2, dim=1)
        prediction = from_epsilon(z, eps, diffusion_level(self.alphas_cumprod[t]))
        z0 = prediction.z0.clamp(-1.0, 1.0) if self.clip else prediction.z0
        return Prediction(z0, eps, share)
