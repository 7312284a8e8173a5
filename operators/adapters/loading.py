"""From the ``adapters`` of a job to a model that has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel

from operators.adapters.lora import fuse_lora
from operators.adapters.textual_inversion import learn_word
from operators.errors import ModelError
from operators.models import LatentModel
from operators.text_encoders import TextEncoders


def adapt(model: LatentModel, adapters: Sequence[Mapping[str, Any]]) -> None:
    """Change ``model`` as ``adapters`` say, in their order: ``{"lora": file, "weight": w}`` and
    ``{"textual_inversion": file, "token": "<word>"}``; those that steer are `control.source_control`'s,
    pictures as prompts `image_prompt.load_image_prompt`'s. Raises ModelError naming the file."""
    if adapters and not isinstance(model.unet, UNet2DConditionModel):
        raise ModelError("adapters are for models with a UNet; leave them out")
    for adapter in adapters:
        if "lora" in adapter:
            fuse_lora(model, Path(adapter["lora"]), adapter["weight"])
        if "textual_inversion" in adapter:
            if not isinstance(model.text, TextEncoders):
                raise ModelError("textual inversion is for models with a text encoder; leave it out")
            learn_word(model.text.towers, Path(adapter["textual_inversion"]), adapter["token"])
