"""IP-Adapter (Ye et al. 2023, arXiv 2308.06721): a picture as a few tokens beside those of the text.

A loaded adapter changes nothing of its UNet: the layers that diffusers makes are kept beside it, for
`operators.style.image_prompted` to put in place for the calls that are told a picture. ``layers: style`` is
InstantStyle (Wang et al. 2024, arXiv 2404.02733): in SDXL the one transformer that carries style; in networks
of SD1.5's kind the whole block ``up_blocks.1``, which its released code (``infer_style_sd15.py``) calls
"experimental, not obvious as SDXL".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0, IPAdapterAttnProcessor2_0
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from operators.checkpoint_files import load_part
from operators.clip_pixels import clip_pixels
from operators.errors import ModelError
from operators.models import LatentModel

#: Files of an adapter's folder. `pipeline.image_prompt_fit` has the same, and `STYLE_LAYERS`.
WEIGHTS, ENCODER = "ip_adapter.safetensors", "image_encoder"
#: Beginnings of the names of the layers that carry style, by the UNet's ``addition_embed_type``: SDXL's, and
#: those of all other kinds.
STYLE_LAYERS: dict[str | None, str] = {"text_time": "up_blocks.0.attentions.1.", None: "up_blocks.1."}


@dataclass(frozen=True)
class ImagePrompt:
    """An adapter for one UNet: ``layers`` that attend to text and picture, by the cross-attention in whose
    place they are put, the ``projection`` of an embedding to tokens, and the ``folder`` with the encoder that
    makes embeddings of pictures."""

    folder: Path
    layers: Mapping[Attention, IPAdapterAttnProcessor2_0]
    projection: nn.Module
    device: torch.device

    @torch.no_grad()
    def tokens(self, pictures: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
        """[2, N, D] float32: the tokens of no picture, made of a zero embedding, for the branch of guidance
        without the prompt, and those of ``pictures`` [1, 3, H, W] in [-1, 1]: their mean by ``shares``, which
        sum to one.

        CLIP sees the centre square of each. The encoder, in float32, is gone afterwards. Raises ModelError
        naming the folder.
        """
        from transformers import CLIPVisionModelWithProjection

        encoder = load_part(CLIPVisionModelWithProjection, self.folder, ENCODER, torch.float32)
        encoder = encoder.to(self.device).eval()
        side = encoder.config.image_size
        embeddings = [encoder(pixel_values=clip_pixels(picture, side)).image_embeds for picture in pictures]
        parts = [share * self.projection(e) for e, share in zip(embeddings, shares, strict=True)]
        nothing = self.projection(torch.zeros_like(embeddings[0]))
        return torch.cat([nothing, torch.stack(parts).sum(0)])


def load_image_prompt(model: LatentModel, adapters: Sequence[Mapping[str, Any]]) -> ImagePrompt | None:
    """That of ``adapters`` which is ``{"ip_adapter": folder, "scale": s, "layers": "all" or "style"}``, for
    ``model``; None where there is none. Raises ModelError naming the file."""
    told = next((adapter for adapter in adapters if "ip_adapter" in adapter), None)
    if told is None:
        return None
    if not isinstance(model.unet, UNet2DConditionModel):
        raise ModelError("an IP-Adapter is for models with a UNet; leave it out")
    folder = Path(told["ip_adapter"])
    file = folder / WEIGHTS
    try:
        held = load_file(file)
        state = {
            part: {n.removeprefix(f"{part}."): v for n, v in held.items() if n.startswith(f"{part}.")}
            for part in ("image_proj", "ip_adapter")
        }
        projection, processors = _made_by_diffusers(model.unet, state)
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(f"{file} cannot be loaded into this model: {error}") from error
    begin = ""
    if told["layers"] == "style":
        begin = STYLE_LAYERS.get(model.unet.config.addition_embed_type, STYLE_LAYERS[None])
    layers = {}
    for name, attention in _cross_attentions(model.unet):
        if name.startswith(begin):
            layer = processors[f"{name}.processor"]
            layer.scale = [told["scale"]]
            layers[attention] = layer.requires_grad_(False)
    if not layers:
        raise ModelError(f"{file}: this model has no layers {begin}; use layers: all")
    return ImagePrompt(folder, layers, projection.float().requires_grad_(False), model.device)


def _made_by_diffusers(
    unet: UNet2DConditionModel, state: dict[str, dict[str, Tensor]]
) -> tuple[nn.Module, dict[str, Any]]:
    """The projection and all processors by name, as loading leaves them; the UNet has its own again."""
    own = dict(unet.attn_processors)
    before = unet.encoder_hid_proj, unet.config.encoder_hid_dim_type
    try:
        # It makes the processors of self-attention anew, by classes that want no arguments.
        unet.set_attn_processor(AttnProcessor2_0())
        unet._load_ip_adapter_weights([state], low_cpu_mem_usage=False)
        return unet.encoder_hid_proj.image_projection_layers[0], dict(unet.attn_processors)
    finally:
        unet.encoder_hid_proj, unet.config.encoder_hid_dim_type = before
        unet.set_attn_processor(own)


def _cross_attentions(unet: UNet2DConditionModel) -> Iterator[tuple[str, Attention]]:
    for name, module in unet.named_modules():
        if isinstance(module, Attention) and name.endswith("attn2"):
            yield name, module
