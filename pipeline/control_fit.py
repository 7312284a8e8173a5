"""Whether a ControlNet fits a checkpoint: read from both configurations and the header of its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.lora_names import tensor_shapes

#: Members of configurations on which the shapes of features depend, and what they are where nothing is said.
_SHAPES: dict[str, Any] = {
    "in_channels": 4,
    "block_out_channels": None,
    "down_block_types": None,
    "layers_per_block": 2,
    "cross_attention_dim": 1280,
    "transformer_layers_per_block": 1,
    "addition_embed_type": None,
    "projection_class_embeddings_input_dim": None,
}
#: Layers that a ControlNet has beside those of a UNet.
_OWN = ("controlnet_cond_embedding.", "controlnet_down_blocks.", "controlnet_mid_block.")


def control_misfit(folder: Path, root: Path) -> str:
    """Why the ControlNet in ``folder`` cannot steer the model below ``root``, a clause about it; "" when it
    can. Raises OSError and ValueError for files that cannot be read."""
    told, unet, vae = (_read(place / "config.json") for place in (folder, root / "unet", root / "vae"))
    if told.get("_class_name") != "ControlNetModel":
        return f"holds a {told.get('_class_name')}, and only ControlNetModel is loaded"
    names = [name for file in folder.glob("*.safetensors") for name in tensor_shapes(file)]
    lacking = [begin for begin in _OWN if not any(name.startswith(begin) for name in names)]
    if lacking:
        return f"has no weights of {lacking[0].rstrip('.')}; fetch it again"
    for member, usual in _SHAPES.items():
        here, there = (_spread(config, member, usual) for config in (unet, told))
        if here != there:
            return (
                f"was made for another kind of model: its {member} is {there}, and that of this one is {here}"
            )
    shrinks = 2 ** (len(told.get("conditioning_embedding_out_channels", (16, 32, 96, 256))) - 1)
    cell = 2 ** (len(vae["block_out_channels"]) - 1)
    if shrinks != cell:
        return (
            f"makes a cell of {shrinks} pixels along a side, and this model of {cell}; use one made for it"
        )
    return ""


def _spread(config: dict[str, Any], member: str, usual: Any) -> Any:
    """One value for each block where there may be one for all."""
    found = config.get(member, usual)
    if member == "transformer_layers_per_block" and isinstance(found, int):
        return [found] * len(config["block_out_channels"])
    return found


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))
