"""UNets of every layout that sharing is for, small and random, with a call that needs only a latent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from operators.models import LatentModel
from tests.support.tiny_models import tiny_sd_unet, tiny_sdxl_unet

LAYOUTS = ("sd15", "sd2", "sdxl", "embedded")


@dataclass(frozen=True)
class Layout:
    """A network and how it is called: ``call`` takes a latent [B, ``channels``, h, w]."""

    unet: UNet2DConditionModel
    channels: int
    call: Callable[[Tensor], Tensor]

    def latent(self, rows: int, seed: int, side: int = 16) -> Tensor:
        """Standard normal, of the network's dtype."""
        z = torch.randn(rows, self.channels, side, side, generator=torch.Generator().manual_seed(seed))
        return z.to(self.unet.dtype)


def tiny_sd2_unet() -> UNet2DConditionModel:
    """SD2.x: linear projections and a number of heads per level."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        block_out_channels=(32, 64, 64, 64),
        cross_attention_dim=32,
        attention_head_dim=[2, 4, 8, 8],
        use_linear_projection=True,
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )


def layout(name: str) -> Layout:
    """A fresh network of the layout ``name`` with keyed weights."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        unet = _network(name)
    unet.eval().requires_grad_(False)
    width = unet.config.cross_attention_dim
    tokens = torch.randn(1, 7, width, generator=torch.Generator().manual_seed(5))
    pooled = torch.randn(1, 32, generator=torch.Generator().manual_seed(6))

    def call(z: Tensor) -> Tensor:
        rows = z.shape[0]
        added = None
        if name == "sdxl":
            added = {
                "text_embeds": pooled.to(z).expand(rows, -1),
                "time_ids": torch.zeros(rows, 6, dtype=z.dtype),
            }
        return unet(
            z, 500, encoder_hidden_states=tokens.to(z).expand(rows, -1, -1), added_cond_kwargs=added
        ).sample

    return Layout(unet, unet.config.in_channels, call)


def _network(name: str) -> UNet2DConditionModel:
    if name == "embedded":
        return LatentModel.from_pretrained("embedded", precision="fp32").unet
    return {"sd15": tiny_sd_unet, "sd2": tiny_sd2_unet, "sdxl": tiny_sdxl_unet}[name]()
