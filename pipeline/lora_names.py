"""Whether a LoRA fits a checkpoint: names and shapes of both, read from the headers of their files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

Shape = tuple[int, ...]

#: As in `operators.adapters.lora`; a test compares.
FACTORS = (
    (".lora_A.weight", ".lora_B.weight"),
    (".lora.down.weight", ".lora.up.weight"),
    ("_lora.down.weight", "_lora.up.weight"),
    (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    (".lora_down.weight", ".lora_up.weight"),
)
PARTS = {
    "unet": ("unet.", "lora_unet_"),
    "text_encoder": ("text_encoder.", "lora_te_", "lora_te1_"),
    "text_encoder_2": ("text_encoder_2.", "lora_te2_"),
}
_RELATIVES = {"hada_": "LoHa", "lokr_": "LoKr", "dora_scale": "DoRA", "lora_magnitude_vector": "DoRA"}
_PEFTS_OWN = "base_model.model."
#: What older files call the projections of text encoders.
_TOWER_WORDS = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
#: Blocks and layers as the first implementation of SDXL names them, and kohya's scripts after it.
_SGM_BLOCK = re.compile(r"(input_blocks|output_blocks)_(\d+)_(\d+)_(.*)|middle_block_(\d+)_(.*)")
_SGM_LAYERS = {
    "in_layers_2": "conv1",
    "out_layers_3": "conv2",
    "emb_layers_1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}
_SGM_ENDS = {
    "input_blocks_0_0": "conv_in",
    "out_2": "conv_out",
    "time_embed_0": "time_embedding_linear_1",
    "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1",
    "label_emb_0_2": "add_embedding_linear_2",
}


def tensor_shapes(file: Path) -> dict[str, Shape]:
    """Shapes by name of a safetensors file. Raises OSError, and ValueError for a file that is none."""
    try:
        with safe_open(file, "np") as handle:
            return {name: tuple(handle.get_slice(name).get_shape()) for name in handle.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{file} is no safetensors file ({error})") from None


def lora_misfit(file: Path, root: Path) -> str:
    """Why ``file`` cannot be merged into the model below ``root``, a clause about it; "" when it can. Raises
    what `tensor_shapes` does."""
    shapes = tensor_shapes(file)
    own = next((name for name in shapes if name.startswith(_PEFTS_OWN)), None)
    if own is not None:
        return (
            "is in the layout of peft alone, which keeps the scale in a file beside it; write it with "
            "save_lora_adapter or save_lora_weights of diffusers"
        )
    for mark, kind in _RELATIVES.items():
        if any(mark in name for name in shapes):
            return (
                f"is a {kind}, and only LoRA is merged; merge it into the model with its own tool"
            )
    layers = dict(_layers(shapes))
    told = {f"{layer}{end}" for layer, (down, up) in layers.items() for end in (down, up, ".alpha")}
    strange = next((name for name in shapes if name not in told), None)
    if strange is not None or not layers:
        return f"is no LoRA: it holds {strange or 'no weights'}"
    known = {part: part_layers(root, part) for part in PARTS}
    per_block = _layers_per_block(root)
    for layer, (down, up) in layers.items():
        part, name = _inside(layer)
        if not known[part]:
            return f"changes {layer}, and this model has no {part}/; take one made without its text encoder"
        weight = known[part].get(diffusers_name(name, per_block) if part == "unet" else name)
        if weight is None:
            return f"changes {layer}, which this model does not have: it was made for another kind of model"
        if f"{layer}{up}" not in shapes:
            return f"lacks {layer}{up}; fetch it again"
        a, b = shapes[f"{layer}{down}"], shapes[f"{layer}{up}"]
        if a[1:] != weight[1:] or b[:1] != weight[:1] or a[:1] != b[1:2]:
            return (
                f"changes {layer} by factors of shapes {list(a)} and {list(b)}, and the layer is "
                f"{list(weight)} here: it was made for another kind of model"
            )
    return ""


def part_layers(root: Path, part: str) -> dict[str, Shape]:
    """Shapes of the weights below ``root / part`` by the names of their layers, underscores for dots; {}
    where there is no such part."""
    found: dict[str, Shape] = {}
    for file in sorted((root / part).glob("*.safetensors")):
        for name, shape in tensor_shapes(file).items():
            if name.endswith(".weight") and len(shape) > 1:
                found[_underscored(name.removesuffix(".weight").removeprefix("text_model."))] = shape
    return found


def diffusers_name(name: str, per_block: int) -> str:
    """The layer ``name`` of a UNet, with underscores, as diffusers calls it: the same unless it is in a block
    as SDXL's first implementation counts them, ``per_block`` layers and what samples up or down."""
    if name in _SGM_ENDS:
        return _SGM_ENDS[name]
    found = _SGM_BLOCK.fullmatch(name)
    if found is None:
        return name
    side, count, inner, rest, middle, middle_rest = found.groups()
    if side is None:
        kind = "attentions_0" if middle == "1" else f"resnets_{int(middle) // 2}"
        return f"mid_block_{kind}_{_SGM_LAYERS.get(middle_rest, middle_rest)}"
    rest = _SGM_LAYERS.get(rest, rest)
    first = 1 if side == "input_blocks" else 0
    block, layer = divmod(int(count) - first, per_block + 1)
    where = "down_blocks" if first else "up_blocks"
    if rest == "op":
        return f"{where}_{block}_downsamplers_0_conv"
    if inner == "2":
        return f"{where}_{block}_upsamplers_0_{rest}"
    return f"{where}_{block}_{'resnets' if inner == '0' else 'attentions'}_{layer}_{rest}"


def _layers(shapes: Mapping[str, Shape]) -> Iterator[tuple[str, tuple[str, str]]]:
    for down, up in FACTORS:
        for name in shapes:
            if name.endswith(down):
                yield name.removesuffix(down), (down, up)


def _inside(layer: str) -> tuple[str, str]:
    """The part of the checkpoint and the name in it, with underscores, of a layer as files name it."""
    for part, begins in PARTS.items():
        for begin in begins:
            if layer.startswith(begin):
                return part, _plain(part, layer.removeprefix(begin))
    return "unet", _plain("unet", layer)


def _plain(part: str, name: str) -> str:
    name = _underscored(name).removeprefix("text_model_").replace("_processor_to_", "_to_")
    for old, new in _TOWER_WORDS.items():
        if part != "unet" and name.endswith(f"self_attn_{old}"):
            name = name.removesuffix(old) + new
    return f"{name}_0" if name.endswith("_to_out") else name


def _underscored(name: str) -> str:
    return name.replace(".", "_")


def _layers_per_block(root: Path) -> int:
    told = json.loads((root / "unet" / "config.json").read_text())["layers_per_block"]
    return int(told if isinstance(told, int) else told[0])
