"""Features of a latent model's own encoder: a perceptual space that needs no download."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from operators.models import LatentModel


@torch.no_grad()
def encoder_features(model: LatentModel, x: Tensor) -> list[Tensor]:
    """What the encoder of ``model`` makes of pictures x [B, 3, H, W] in [-1, 1], from fine to coarse.

    A VAE gives its first convolution and each of its down blocks, [B, C_l, H_l, W_l]; the analytic
    transform gives its latent only. H and W must be multiples of ``model.vae_factor``.
    """
    if not isinstance(model.vae, AutoencoderKL):
        return [model.encode(x)]
    encoder = model.vae.encoder
    features = [encoder.conv_in(x.to(model.vae.dtype))]
    for block in encoder.down_blocks:
        features.append(block(features[-1]))
    return [level.float() for level in features]
