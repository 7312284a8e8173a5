"""Whether an IP-Adapter fits a checkpoint and a job: read from the headers of its files, without torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import SpecError
from pipeline.lora_names import Shape, tensor_shapes
from pipeline.settings import JobSettings
from pipeline.style_fit import OF_PICTURES

#: As in `operators.adapters.image_prompt`; a test compares.
WEIGHTS, ENCODER = "ip_adapter.safetensors", "image_encoder"
STYLE_LAYERS: dict[str | None, str] = {"text_time": "up_blocks.0.attentions.1.", None: "up_blocks.1."}

_TOKENS = 4
_PROJECTION = {"proj.weight", "proj.bias", "norm.weight", "norm.bias"}
#: Adapters are numbered by the cross-attentions of a UNet in this order, odd numbers only.
_SIDES = ("down_blocks", "up_blocks", "mid_block")
_KEYS = re.compile(
    r"((down_blocks|up_blocks|mid_block)\.(?:(\d+)\.)?attentions\.(\d+)\.transformer_blocks\.(\d+)\.attn2)"
    r"\.to_k\.weight"
)


def require_image_prompts_fit(settings: JobSettings) -> None:
    """Raises SpecError naming the field: a second adapter, one that no stylization by a picture reads, one
    beside blended prompts, and a method that aggregates its tokens without any."""
    fields = [f"adapters.{n}.ip_adapter" for n, a in enumerate(settings.adapters) if "ip_adapter" in a]
    for where, stylize in _stylizations(settings):
        by_picture = stylize["method"]["name"] in OF_PICTURES
        if stylize["method"].get("aggregation") and not fields:
            field = f"{where}.method.aggregation"
            raise SpecError(
                f"{field}: it averages attention to text and picture, which an IP-Adapter makes tokens of; "
                "add {ip_adapter: FOLDER} to adapters, or leave it out",
                field=field,
            )
        if fields and by_picture and stylize.get("blend"):
            field = f"{where}.blend"
            raise SpecError(
                f"{field}: prompts are blended in cross-attention, where the IP-Adapter of adapters adds its "
                "picture; leave one of them out",
                field=field,
            )
    if len(fields) > 1:
        raise SpecError(
            f"{fields[1]}: it is the second one, and a model takes one; give it several references instead",
            field=fields[1],
        )
    if fields and not any(s["method"]["name"] in OF_PICTURES for _, s in _stylizations(settings)):
        raise SpecError(
            f"{fields[0]}: it shows the model a style's picture, and enhance has no stylization with a "
            f"reference; leave it out, or stylize by method {', '.join(OF_PICTURES)}",
            field=fields[0],
        )


def image_prompt_misfit(folder: Path, root: Path, layers: str) -> str:
    """Why the adapter in ``folder`` cannot be loaded into ``layers`` ("all" or "style") of the model below
    ``root``, a clause about it; "" when it can. Raises OSError and ValueError for files that cannot be
    read."""
    if not (root / "text_encoder").is_dir():
        return "adds a picture to a prompt, and this model reads none: it has no text_encoder/; leave it out"
    told = json.loads((root / "unet" / "config.json").read_text())
    width = told.get("cross_attention_dim", 1280)
    shapes = tensor_shapes(folder / WEIGHTS)
    attentions = _cross_attentions(root)
    return (
        _projection_misfit(folder, shapes, width)
        or _layers_misfit(shapes, list(attentions.values()))
        or _style_misfit(layers, told.get("addition_embed_type"), list(attentions))
    )


def _projection_misfit(folder: Path, shapes: dict[str, Shape], width: Any) -> str:
    held = {n.removeprefix("image_proj.") for n in shapes if n.startswith("image_proj.")}
    if held != _PROJECTION:
        return (
            "is no plain IP-Adapter: its image_proj is another network (Plus, Full Face and FaceID have "
            "their own); take the one whose image_proj is proj and norm"
        )
    made, embedding = shapes["image_proj.proj.weight"]
    if made != _TOKENS * width:
        return (
            f"makes {_TOKENS} tokens of {made / _TOKENS:g} numbers, and this model reads {width} for each: "
            "it was made for another kind of model"
        )
    towers = [tensor_shapes(file) for file in sorted((folder / ENCODER).glob("*.safetensors"))]
    found = next((t["visual_projection.weight"] for t in towers if "visual_projection.weight" in t), None)
    if found is None:
        return f"has no CLIP vision tower with a projection in {ENCODER}/; fetch the one it was trained with"
    if found[0] != embedding:
        return (
            f"reads embeddings of {embedding} numbers, and {ENCODER}/ makes {found[0]}; fetch the encoder "
            "that it was trained with"
        )
    return ""


def _layers_misfit(shapes: dict[str, Shape], wanted: list[Shape]) -> str:
    expected = {
        f"ip_adapter.{2 * n + 1}.{name}.weight": shape
        for n, shape in enumerate(wanted)
        for name in ("to_k_ip", "to_v_ip")
    }
    held = {n: shape for n, shape in shapes.items() if n.startswith("ip_adapter.")}
    if held.keys() != expected.keys():
        return (
            f"has projections for {len(held) // 2} layers, and this model has {len(wanted)} that read text: "
            "it was made for another kind of model"
        )
    wrong = next((name for name in expected if held[name] != expected[name]), None)
    if wrong is not None:
        return (
            f"holds {wrong} of shape {list(held[wrong])}, and the layer is {list(expected[wrong])} here: it "
            "was made for another kind of model"
        )
    return ""


def _style_misfit(layers: str, kind: str | None, names: list[str]) -> str:
    begin = STYLE_LAYERS.get(kind, STYLE_LAYERS[None])
    if layers == "all" or any(name.startswith(begin) for name in names):
        return ""
    return f"has no layers for style here: this model reads no text in {begin.rstrip('.')}; use layers: all"


def _cross_attentions(root: Path) -> dict[str, Shape]:
    """Shapes of key projections by the name of the layer, in the order in which adapters number them."""
    found: dict[tuple[int, ...], tuple[str, Shape]] = {}
    for file in sorted((root / "unet").glob("*.safetensors")):
        for name, shape in tensor_shapes(file).items():
            if layer := _KEYS.fullmatch(name):
                whole, side, *numbers = layer.groups()
                found[_SIDES.index(side), *(int(n or 0) for n in numbers)] = whole, shape
    return dict(found[at] for at in sorted(found))


def _stylizations(settings: JobSettings) -> Iterator[tuple[str, dict[str, Any]]]:
    for items in (settings.enhance, *(entry.enhance for entry in settings.scenes)):
        for number, item in enumerate(items):
            if "stylize" in item:
                yield f"enhance.{number}.stylize", item["stylize"]
