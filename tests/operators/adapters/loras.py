"""LoRA made on the spot, in the layouts that files come in, and the change that each stands for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

#: Layers of the tiny UNets and of their text towers, with ranks and alphas that differ.
ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0"
CONV = "mid_block.resnets.0.conv1"
TOWER = "text_model.encoder.layers.0.mlp.fc1"
RANKS = {ATTENTION: 2, OUT: 3, CONV: 4, TOWER: 2}
ALPHAS = {ATTENTION: 1.0, OUT: 6.0, CONV: 2.0, TOWER: 4.0}


def factors(weight: Tensor, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """A [r, in, ...] and B [out, r, ...] for a layer of this weight."""
    draw = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, *weight.shape[1:], generator=draw)
    up = torch.randn(len(weight), rank, *[1] * (weight.dim() - 2), generator=draw)
    return down, up


def product(down: Tensor, up: Tensor) -> Tensor:
    """B A in the shape of the layer's weight."""
    return (up.flatten(1) @ down.flatten(1)).reshape(len(up), *down.shape[1:])


def all_factors(weights: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Factors for every layer of ``weights``, by its dotted name."""
    return {name: factors(weights[name], RANKS[name], seed) for seed, name in enumerate(sorted(weights))}


def write_kohya(file: Path, made: Mapping[str, tuple[Tensor, Tensor]]) -> Path:
    """Underscores for dots, and an alpha for each layer."""
    state = {}
    for name, (down, up) in made.items():
        whole = ("lora_te_" if name.startswith("text_model") else "lora_unet_") + name.replace(".", "_")
        state |= {f"{whole}.lora_down.weight": down, f"{whole}.lora_up.weight": up}
        state[f"{whole}.alpha"] = torch.tensor(ALPHAS[name])
    save_file(state, file)
    return file


def write_peft(
    file: Path, made: Mapping[str, tuple[Tensor, Tensor]], *, prefix: bool = True, noted: bool = False
) -> Path:
    """As diffusers writes it; ``noted``: with alphas in the header, else they equal the ranks."""
    state, facts = {}, {}
    for name, (down, up) in made.items():
        part = "text_encoder." if name.startswith("text_model") else "unet."
        whole = f"{part}{name}" if prefix else name
        state |= {f"{whole}.lora_A.weight": down, f"{whole}.lora_B.weight": up}
        begin = part if prefix else ""
        facts |= {f"{begin}r": 2, f"{begin}lora_alpha": 1.0}
        facts.setdefault(f"{begin}alpha_pattern", {})[name] = ALPHAS[name]
    save_file(state, file, {"lora_adapter_metadata": json.dumps(facts)} if noted else {})
    return file
