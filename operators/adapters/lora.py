"""LoRA (Hu et al. 2021, arXiv 2106.09685): low-rank changes of layers, merged into their weights.

A layer's weight W becomes W + w (alpha / r) B A, with the factors A [r, in] and B [out, r] of the file and
the job's w. Merged once, on the device that the model is on: what is sampled costs nothing more, and
inversion and sampling see one network.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from operators.errors import ModelError
from operators.models import LatentModel
from operators.text_encoders import TextEncoders

#: How files end the names of a layer's factors, A [r, in, ...] and B [out, r, ...]: PEFT's, two of older
#: diffusers, that of its text encoders, and kohya's. `pipeline.lora_names` has the same.
FACTORS = (
    (".lora_A.weight", ".lora_B.weight"),
    (".lora.down.weight", ".lora.up.weight"),
    ("_lora.down.weight", "_lora.up.weight"),
    (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    (".lora_down.weight", ".lora_up.weight"),
)
#: Beginnings of names by the part of the checkpoint that they are in; names without any are the network's.
PARTS = {
    "unet": ("unet.", "lora_unet_"),
    "text_encoder": ("text_encoder.", "lora_te_", "lora_te1_"),
    "text_encoder_2": ("text_encoder_2.", "lora_te2_"),
}
_NAME = "lora"


def fuse_lora(model: LatentModel, file: Path, weight: float) -> None:
    """Change the layers that ``file`` names, of the UNet and of the text towers, by ``weight`` times what it
    holds. Raises ModelError naming the file: it cannot be read, or fits other layers."""
    try:
        import peft  # noqa: F401
    except ImportError:
        raise ModelError(f"{file}: LoRA is read by the package peft; pip install 'reelweave[lora]'") from None
    state, facts = _read(file)
    try:
        by_part = _leveled(state, facts, weight)
        _merge(model, by_part)
    except (ValueError, RuntimeError, KeyError, IndexError) as error:
        raise ModelError(f"{file} cannot be merged into this model: {error}") from error


def _merge(model: LatentModel, by_part: Mapping[str, dict[str, Tensor]]) -> None:
    from diffusers.loaders import StableDiffusionLoraLoaderMixin

    together = {name: factor for state in by_part.values() for name, factor in state.items()}
    converted, _ = StableDiffusionLoraLoaderMixin.lora_state_dict(together, unet_config=model.unet.config)
    if "unet" in by_part:
        model.unet.load_lora_adapter(converted, prefix="unet", adapter_name=_NAME)
        _require_all(model.unet, "unet", len(by_part["unet"]) // 2)
        model.unet.fuse_lora(adapter_names=[_NAME])
        model.unet.unload_lora()
        model.unet.requires_grad_(False)
    towers = model.text.towers if isinstance(model.text, TextEncoders) else ()
    for part, (_, encoder) in zip(("text_encoder", "text_encoder_2"), towers, strict=False):
        if part in by_part:
            _merge_into_tower(encoder, part, converted, len(by_part[part]) // 2)


def _merge_into_tower(encoder: nn.Module, part: str, converted: Mapping[str, Tensor], layers: int) -> None:
    # Not by transformers' own loader, which reports every layer without a LoRA as newly initialised.
    from diffusers.utils import convert_state_dict_to_peft, recurse_remove_peft_layers
    from diffusers.utils.state_dict_utils import StateDictType
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    state = {n.removeprefix(f"{part}."): v for n, v in converted.items() if n.startswith(f"{part}.")}
    for layout in (StateDictType.DIFFUSERS_OLD, StateDictType.DIFFUSERS):
        state = convert_state_dict_to_peft(state, layout)
    if not hasattr(encoder, "text_model"):
        state = {name.removeprefix("text_model."): factor for name, factor in state.items()}
    named = [name.removesuffix(".lora_A.weight") for name in state if name.endswith(".lora_A.weight")]
    rank = len(state[f"{named[0]}.lora_A.weight"])
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=named), encoder, _NAME)
    set_peft_model_state_dict(encoder, state, _NAME)
    for module in _require_all(encoder, part, layers):
        module.merge(adapter_names=[_NAME])
    recurse_remove_peft_layers(encoder)
    encoder.requires_grad_(False)


def _require_all(network: nn.Module, part: str, layers: int) -> list[Any]:
    """The layers of ``network`` that are about to change, which must be as many as the file has."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    found = [module for module in network.modules() if isinstance(module, BaseTunerLayer)]
    if len(found) != layers:
        raise ModelError(f"of its {layers} layers of {part} only {len(found)} were found there")
    return found


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, in float32, and what diffusers noted of their scale."""
    try:
        with safe_open(file, "pt") as handle:
            state = {name: handle.get_tensor(name).float() for name in handle.keys()}  # noqa: SIM118
            noted = (handle.metadata() or {}).get("lora_adapter_metadata", "{}")
        return state, dict(json.loads(noted))
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error


def _leveled(
    state: Mapping[str, Tensor], facts: Mapping[str, Any], weight: float
) -> dict[str, dict[str, Tensor]]:
    """The factors of ``state`` by part, all of one rank, with their scale and ``weight`` in B.

    Loaders take rank and alpha of the first layer for all that say nothing else; zeros beyond a layer's own
    rank change nothing, and then there is nothing to tell.
    """
    pairs = [
        (name.removesuffix(down), name, f"{name.removesuffix(down)}{up}")
        for down, up in FACTORS
        for name in state
        if name.endswith(down)
    ]
    rank = max(len(state[down]) for _, down, _ in pairs)
    found: dict[str, dict[str, Tensor]] = {}
    for layer, down, up in pairs:
        own = len(state[down])
        alpha = state.get(f"{layer}.alpha")
        scale = _scale(layer, own, facts) if alpha is None else float(alpha) / own
        part = part_of(layer)
        whole = "" if layer.startswith(PARTS[part]) else "unet."
        found.setdefault(part, {}).update(
            {
                whole + down: _padded(state[down], 0, rank),
                whole + up: _padded(state[up] * (scale * weight), 1, rank),
            }
        )
    return found


def part_of(layer: str) -> str:
    """The part of the checkpoint that a layer named in a file is in."""
    return next((part for part, begins in PARTS.items() if layer.startswith(begins)), "unet")


def _scale(layer: str, rank: int, facts: Mapping[str, Any]) -> float:
    """alpha / r as PEFT's settings in the file say, by pattern or for all layers; else 1."""
    part, _, inside = layer.partition(".")
    begin, name = (f"{part}.", inside) if f"{part}.r" in facts else ("", layer)
    patterns = facts.get(f"{begin}alpha_pattern") or {}
    fits = [pattern for pattern in patterns if re.match(rf"(.*\.)?({pattern})$", name)]
    alpha = patterns[fits[0]] if fits else facts.get(f"{begin}lora_alpha", rank)
    return float(alpha) / (math.sqrt(rank) if facts.get(f"{begin}use_rslora") else rank)


def _padded(factor: Tensor, dim: int, rank: int) -> Tensor:
    missing = list(factor.shape)
    missing[dim] = rank - factor.shape[dim]
    return torch.cat([factor, factor.new_zeros(missing)], dim)
