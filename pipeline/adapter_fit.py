"""Whether a job's adapters fit its model: said from the headers of their files, without torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.adapter_files import adapter_file
from pipeline.control_fit import control_misfit
from pipeline.errors import SpecError
from pipeline.image_prompt_fit import image_prompt_misfit, require_image_prompts_fit
from pipeline.lora_names import lora_misfit, tensor_shapes
from pipeline.prompt_window import prompts_of, tokenizer_of
from pipeline.settings import JobSettings

#: As in `operators.adapters.textual_inversion`; a test compares.
OF_TWO_TOWERS = ("clip_l", "clip_g")


def require_adapters_fit(settings: JobSettings, root: Path) -> dict[str, int]:
    """How many vectors each learned word has. Raises SpecError naming the field: a file that is missing or
    cannot be read, a LoRA of other layers, a word that the model knows already, that has another width or
    that no prompt says, a ControlNet of another kind of model or without a stylization, an IP-Adapter as
    `pipeline.image_prompt_fit` says, and anything at all for a model without a UNet."""
    require_image_prompts_fit(settings)
    words: dict[str, int] = {}
    for number, adapter in enumerate(settings.adapters):
        field, file = adapter_file(number, adapter)
        if not (root / "unet").is_dir():
            raise SpecError(
                f"{field}: {settings.model} has no unet/, and adapters are for models that have one; leave "
                "adapters out or choose another model",
                field=field,
            )
        try:
            count, misfit = _fit(adapter, file, root)
        except (OSError, ValueError, KeyError) as error:
            raise SpecError(f"{field}: {error}; fetch the file again", field=field) from error
        if misfit:
            raise SpecError(f"{field}: {file} {misfit}", field=field)
        if "controlnet" in adapter and not any("stylize" in item for item in settings.enhance):
            raise SpecError(
                f"{field}: it steers stylizations, and enhance has none; leave it out, or add one",
                field=field,
            )
        if "token" in adapter:
            _require_new_word(f"adapters.{number}.token", adapter["token"], count, words, settings, root)
            words[adapter["token"]] = count
    return words


def _fit(adapter: Mapping[str, Any], file: Path, root: Path) -> tuple[int, str]:
    """How many vectors a learned word has (0: it is none), and why an adapter does not fit, or ""."""
    if "lora" in adapter:
        return 0, lora_misfit(file, root)
    if "controlnet" in adapter:
        return 0, control_misfit(file, root)
    if "ip_adapter" in adapter:
        return 0, image_prompt_misfit(file, root, adapter["layers"])
    return _word(file, root)


def _word(file: Path, root: Path) -> tuple[int, str]:
    """How many vectors ``file`` holds, and why they do not fit the text towers below ``root``, or ""."""
    towers = [name for name in ("text_encoder", "text_encoder_2") if (root / name).is_dir()]
    shapes = tensor_shapes(file)
    if not towers:
        return 0, "is a word for a model that reads text, and this one has no text_encoder/; leave it out"
    names = OF_TWO_TOWERS if len(towers) > 1 else tuple(shapes)
    if len(shapes) != len(towers) or set(names) != set(shapes):
        wants = "one tensor" if len(towers) == 1 else f"tensors {' and '.join(OF_TWO_TOWERS)}"
        return 0, f"holds {', '.join(sorted(shapes)) or 'nothing'}, and this model takes {wants}"
    counts = set()
    for name, tower in zip(names, towers, strict=True):
        width = json.loads((root / tower / "config.json").read_text())["hidden_size"]
        shape = shapes[name]
        if len(shape) not in (1, 2) or 0 in shape or shape[-1] != width:
            return 0, (
                f"has vectors of shape {list(shape)}, and {tower} reads {width} numbers for a token: it was "
                "made for another model"
            )
        counts.add(shape[0] if len(shape) == 2 else 1)
    if len(counts) > 1:
        return 0, "has not as many vectors for one text tower as for the other; fetch it again"
    return counts.pop(), ""


def _require_new_word(
    field: str, token: str, count: int, words: Iterable[str], settings: JobSettings, root: Path
) -> None:
    spelled = {token, *(f"{token}_{n}" for n in range(1, count))}
    tokenizers = [tokenizer_of(folder) for folder in sorted(root.glob("tokenizer*"))]
    if token in words or any(spelled & tokenizer.get_vocab().keys() for tokenizer in tokenizers):
        raise SpecError(
            f"{field}: {token} is a word that the model knows already; choose another one, and write it in "
            "prompts",
            field=field,
        )
    if not any(token in text for text in _prompts(settings)):
        raise SpecError(f"{field}: no prompt says {token}; write it in one, or leave it out", field=field)


def _prompts(settings: JobSettings) -> Iterable[str]:
    lists = (settings.enhance, *(entry.enhance for entry in settings.scenes))
    whats: Iterable[Mapping[str, Any]] = (what for items in lists for item in items for what in item.values())
    return (text for what in whats for _, text in prompts_of(what))
