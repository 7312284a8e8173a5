"""A small UNet as a latent prior without an autoencoder: latents are their own pictures."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from operators.solvers.base import Prediction
from operators.solvers.levels import diffusion_level
from operators.solvers.parametrisation import from_epsilon
from tests.support.gaussian_prior import stable_diffusion_alphas


class NetworkPrior:
    """Epsilon prediction under the prompt ``seed``; cross-attention 32 wide."""

    complement = None
    noise_gain = 1.0

    def __init__(self, unet: UNet2DConditionModel, seed: int) -> None:
        self.unet = unet
        self.tokens = torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(seed))
        self.alphas_cumprod = stable_diffusion_alphas().float()
        self.final_alpha_cumprod = self.alphas_cumprod[0]

    def encode(self, x: Tensor) -> Tensor:
        return x

    decode = encode

    def predict(self, z: Tensor, t: int) -> Prediction:
        eps = self.unet(
            z.to(self.unet.dtype),
            t,
            encoder_hidden_states=self.tokens.expand(len(z), -1, -1).to(self.unet.dtype),
        ).sample.float()
        return from_epsilon(z, eps, diffusion_level(self.alphas_cumprod[t]))
