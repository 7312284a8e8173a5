"""What a job adds to its model: files that change or extend a checkpoint, as validated frozen values."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from jobs.places import Place
from jobs.spec_base import Section, problem

_WORD = re.compile(r"<[a-z0-9_-]{1,60}>")


class Lora(Section):
    """Low-rank changes of layers (LoRA, Hu et al. 2021), merged into the model at ``weight``: a safetensors
    file as diffusers or kohya's scripts write it."""

    lora: Place
    weight: Annotated[float, Field(ge=-4.0, le=4.0)] = 1.0


class TextualInversion(Section):
    """A learned word (Gal et al. 2022): a safetensors file of vectors, and the ``token`` that prompts write
    for it."""

    textual_inversion: Place
    token: str

    @field_validator("token")
    @classmethod
    def _is_a_word_of_its_own(cls, token: str) -> str:
        if not _WORD.fullmatch(token):
            raise problem(
                f"found {token!r}; write small letters, digits, '_' or '-' between angle brackets, as <mine>"
            )
        return token


class ControlNet(Section):
    """Frames are steered by what they show while they are stylized (Zhang, Rao and Agrawala 2023):
    ``controlnet`` is the folder of a ControlNet, ``condition`` the pictures that it was made for, tile the
    frames themselves, softedge their edges. ``weight`` is the factor of what it adds."""

    controlnet: Place
    condition: Literal["tile", "softedge"]
    weight: Annotated[float, Field(ge=0.0, le=2.0)] = 0.7


class IpAdapter(Section):
    """Stylizations by a picture are told it beside the prompt (Ye et al. 2023): ``ip_adapter`` is a folder
    with ip_adapter.safetensors and image_encoder/, ``scale`` the factor of what the picture adds, which a
    method with ``aggregation`` does not use. ``layers`` style is InstantStyle (Wang et al. 2024): only those
    layers of the model that carry style."""

    ip_adapter: Place
    scale: Annotated[float, Field(ge=0.0, le=2.0)] = 0.6
    layers: Literal["all", "style"] = "all"


def _kind(adapter: Any) -> str | None:
    if isinstance(adapter, Section):
        return _KINDS[type(adapter)]
    given = adapter if isinstance(adapter, dict) else {}
    return next((tag for kind, tag in _KINDS.items() if next(iter(kind.model_fields)) in given), None)


# Not the keys of the sections, or problems would be placed below those.
_KINDS: dict[type[Section], str] = {
    Lora: "of layers",
    TextualInversion: "of words",
    ControlNet: "of frames",
    IpAdapter: "of styles",
}
Adapter = Annotated[
    Annotated[Lora, Tag("of layers")]
    | Annotated[TextualInversion, Tag("of words")]
    | Annotated[ControlNet, Tag("of frames")]
    | Annotated[IpAdapter, Tag("of styles")],
    Discriminator(
        _kind,
        custom_error_type="adapter_kind",
        custom_error_message=(
            "Expected a mapping with the key lora, textual_inversion, controlnet or ip_adapter"
        ),
    ),
]
