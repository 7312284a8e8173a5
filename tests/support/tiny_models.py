"""Tiny random checkpoints in the layouts of SD1.5, SD2.x and SDXL, written with ``save_pretrained``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLWan,
    ControlNetModel,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    UNet2DModel,
    WanTransformer3DModel,
)
from safetensors.torch import save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
)

TOKENS = 77
_WORDS = ["<|startoftext|>", "<|endoftext|>", "a</w>", "i", "n", "k</w>", "in", "ink</w>"]


def tiny_vae(latent_channels: int = 4, shift_factor: float | None = None) -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=latent_channels,
        shift_factor=shift_factor,
        norm_num_groups=4,
        layers_per_block=1,
        scaling_factor=0.18215,
    )


def tiny_sd_unet(cross_attention_dim: int = 32) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        block_out_channels=(32, 64, 64, 64),
        cross_attention_dim=cross_attention_dim,
        attention_head_dim=4,
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )


def tiny_sdxl_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        block_out_channels=(32, 64, 64),
        cross_attention_dim=64,
        attention_head_dim=[2, 4, 4],
        norm_num_groups=8,
        transformer_layers_per_block=[1, 2, 2],
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )


def save_tiny_sd(folder: Path, *, prediction_type: str = "epsilon") -> Path:
    """An SD1.5 (epsilon) or SD2.x (v_prediction) layout with one text tower."""
    torch.manual_seed(0)
    tiny_vae().save_pretrained(folder / "vae")
    tiny_sd_unet().save_pretrained(folder / "unet")
    _scheduler(prediction_type).save_pretrained(folder / "scheduler")
    _save_tower(folder, "", 32, projected=False)
    return folder


def save_tiny_few_step(folder: Path) -> Path:
    """A latent consistency model."""
    save_tiny_sd(folder)
    LCMScheduler.from_pretrained(folder / "scheduler").save_pretrained(folder / "scheduler")
    return folder


def save_tiny_flow(folder: Path) -> Path:
    """A rectified flow with a UNet, as InstaFlow."""
    save_tiny_sd(folder)
    FlowMatchEulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    return folder


def save_tiny_sd3(folder: Path, *, t5: bool = True) -> Path:
    """An SD3 layout: a multimodal transformer, sixteen latent channels, two CLIP towers and T5."""
    torch.manual_seed(0)
    tiny_vae(latent_channels=16, shift_factor=0.0609).save_pretrained(folder / "vae")
    SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=72,
        caption_projection_dim=16,
        pooled_projection_dim=64,
        out_channels=16,
        pos_embed_max_size=8,
    ).save_pretrained(folder / "transformer")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    for suffix in ("", "_2"):
        _save_tower(folder, suffix, 32, projected=True)
    if t5:
        config = T5Config(vocab_size=len(_WORDS), d_model=72, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        T5EncoderModel(config).save_pretrained(folder / "text_encoder_3")
        # Any tokenizer will do for a tower that knows its words.
        shutil.copytree(folder / "tokenizer", folder / "tokenizer_3")
    return folder


def save_tiny_bridge(folder: Path, *, widths: tuple[int, ...] = (16, 32), **changes: object) -> Path:
    """An image-to-image bridge, one level per width, with its manifest, in which ``changes`` are made."""
    torch.manual_seed(0)
    plain = len(widths) - 1
    network = UNet2DModel(
        sample_size=16,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=widths,
        norm_num_groups=8,
        down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
    )
    network.save_config(folder)
    save_file(network.state_dict(), folder / "bridge.safetensors")
    manifest = {"kind": "bridge", "weights": ["bridge.safetensors"], "licence": "test", **changes}
    (folder / "checkpoint.json").write_text(json.dumps(manifest))
    return folder


def save_tiny_wan(folder: Path) -> Path:
    """A video consistency model with its manifest: one latent frame for four of pixels."""
    torch.manual_seed(0)
    AutoencoderKLWan(
        base_dim=8,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    ).save_pretrained(folder / "vae")
    WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=16,
        freq_dim=32,
        ffn_dim=32,
        num_layers=1,
    ).save_pretrained(folder / "transformer")
    save_file({"null_condition": torch.randn(1, 4, 16)}, folder / "condition.safetensors")
    weights = [f"{part}/diffusion_pytorch_model.safetensors" for part in ("vae", "transformer")]
    weights.append("condition.safetensors")
    manifest = {"kind": "video_consistency", "weights": weights, "licence": "test"}
    (folder / "checkpoint.json").write_text(json.dumps(manifest))
    return folder


def save_tiny_controlnet(folder: Path, unet: UNet2DConditionModel, seed: int = 0) -> Path:
    """A ControlNet for ``unet`` whose residuals are not the nothing that training begins with."""
    torch.manual_seed(seed)
    network = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 16, 16))
    for name, weight in network.named_parameters():
        if name.startswith("controlnet_cond_embedding") and weight.dim() > 1:
            torch.nn.init.kaiming_normal_(weight)  # or hardly anything would be left of a picture
        elif name.startswith("controlnet_") and not weight.any():
            torch.nn.init.normal_(weight, std=0.2)
    network.save_pretrained(folder)
    return folder


def save_tiny_image_prompt(folder: Path, unet: UNet2DConditionModel, seed: int = 0) -> Path:
    """An IP-Adapter for ``unet`` in the layout that it was published in, beside a vision tower."""
    torch.manual_seed(seed)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        projection_dim=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder / "image_encoder")
    width = unet.config.cross_attention_dim
    state = {
        "image_proj.proj.weight": torch.randn(4 * width, 12),
        "image_proj.proj.bias": torch.randn(4 * width),
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    layers = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    for n, name in enumerate(layers):
        inner = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
        for key in ("to_k_ip", "to_v_ip"):
            state[f"ip_adapter.{2 * n + 1}.{key}.weight"] = torch.randn(inner, width)
    save_file(state, folder / "ip_adapter.safetensors")
    return folder


def save_tiny_sdxl(folder: Path) -> Path:
    """An SDXL layout with two text towers."""
    torch.manual_seed(0)
    tiny_vae().save_pretrained(folder / "vae")
    tiny_sdxl_unet().save_pretrained(folder / "unet")
    _scheduler("epsilon").save_pretrained(folder / "scheduler")
    _save_tower(folder, "", 32, projected=False)
    _save_tower(folder, "_2", 32, projected=True)
    return folder


def _scheduler(prediction_type: str) -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )


def _save_tower(folder: Path, suffix: str, width: int, *, projected: bool) -> None:
    config = CLIPTextConfig(
        vocab_size=len(_WORDS),
        hidden_size=width,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        projection_dim=32,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    kind(config).save_pretrained(folder / f"text_encoder{suffix}")
    place = folder / f"tokenizer{suffix}"
    place.mkdir(parents=True)
    vocabulary = {word: number for number, word in enumerate(_WORDS)}
    (place / "vocab.json").write_text(json.dumps(vocabulary))
    (place / "merges.txt").write_text("#version: 0.2\ni n\nin k</w>\n")
    CLIPTokenizer.from_pretrained(place, model_max_length=TOKENS).save_pretrained(place)
