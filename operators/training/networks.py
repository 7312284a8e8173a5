"""The networks of the embedded model: their shapes, their first weights, and how attention is woken."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors import SafetensorError
from torch import nn

from operators.errors import ModelError, TrainingError
from operators.model_card import verify_weights

BLOCK, CHANNELS = 4, 12
CONDITION_TOKENS, CONDITION_WIDTH = 14, 128

AUTOENCODER = {
    "block_out_channels": (24, 48, 96),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "latent_channels": CHANNELS,
    "layers_per_block": 1,
    "mid_block_add_attention": False,
    "norm_num_groups": 8,
    "sample_size": 256,
    "scaling_factor": 1.0,
}
PRIOR = {
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
    "block_out_channels": (64, 96, 128),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    # diffusers' name for the number of heads per level.
    "attention_head_dim": (2, 3, 4),
    "cross_attention_dim": CONDITION_WIDTH,
    "norm_num_groups": 16,
    "sample_size": 64,
    "use_linear_projection": True,
}
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}

#: Gain of the orthogonal query and key projections: an identical token stands out by e^8 and more.
MATCH_GAIN = 1.5
VALUE_GAIN = 1.0
OUT_GAIN = 0.5


def new_autoencoder(start: Path | None, seed: int) -> AutoencoderKL:
    """An autoencoder with fresh weights, or with those of ``start``/vae."""
    return _new(AutoencoderKL, AUTOENCODER, start, "vae", seed)


def new_prior(start: Path | None, seed: int, *, wake: bool) -> UNet2DConditionModel:
    """A prior with fresh weights, or with those of ``start``/unet; ``wake`` gives the self-attention of a
    started one new weights (that of a fresh one always gets them)."""
    unet = _new(UNet2DConditionModel, PRIOR, start, "unet", seed)
    if start is None or wake:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            wake_attention(unet)
    return unet


def scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule, for v-prediction."""
    return DDIMScheduler(**SCHEDULE)


@torch.no_grad()
def wake_attention(unet: UNet2DConditionModel) -> None:
    """Give every self-attention equal, orthogonal query and key projections.

    Tokens then attend to tokens like them from the first step (a non-local mean), so the values have
    something to carry and the gradient something to sharpen; with independent projections attention starts
    as an average over the picture and is trained away.
    """
    for name, module in unet.named_modules():
        if name.endswith("attn1"):
            nn.init.orthogonal_(module.to_q.weight, MATCH_GAIN)
            module.to_k.weight.copy_(module.to_q.weight)
            nn.init.orthogonal_(module.to_v.weight, VALUE_GAIN)
            nn.init.orthogonal_(module.to_out[0].weight, OUT_GAIN)
            nn.init.zeros_(module.to_out[0].bias)


def _new(kind: type, config: dict[str, object], start: Path | None, part: str, seed: int) -> nn.Module:
    if start is None:
        # diffusers initialises from the global generator; it is put back afterwards.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = kind(**config)
    else:
        try:
            verify_weights(start)
            network = kind.from_pretrained(
                start,
                subfolder=part,
                use_safetensors=True,
                torch_dtype=torch.float32,
                local_files_only=True,
                low_cpu_mem_usage=False,
            )
        except (ModelError, OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise TrainingError(f"{start}/{part} cannot be started from: {reason}") from error
        expected = config["latent_channels" if part == "vae" else "in_channels"]
        found = network.config["latent_channels" if part == "vae" else "in_channels"]
        if found != expected:
            raise TrainingError(
                f"{start}/{part} has {found} latent channels; the embedded model has {expected}"
            )
    return network.float()
