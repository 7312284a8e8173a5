"""Textual inversion (Gal et al. 2022, arXiv 2208.01618): words that text towers did not know."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers.loaders import TextualInversionLoaderMixin
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from operators.errors import ModelError

#: Names of the vectors of SDXL's two towers, as trainers write them. `pipeline.adapter_fit` has the same.
OF_TWO_TOWERS = ("clip_l", "clip_g")


class _Loader(TextualInversionLoaderMixin):
    """The part of a pipeline of diffusers that loading wants: no offloading."""

    hf_device_map = None
    components: ClassVar[dict[str, Any]] = {}


def learn_word(towers: tuple[tuple[Any, Any], ...], file: Path, token: str) -> None:
    """Teach ``token`` to the tokenizers and encoders of ``towers``: ``file`` holds vectors [n, width] (or
    [width]), one tensor for one tower, `OF_TWO_TOWERS` for two. Raises ModelError naming the file."""
    for (tokenizer, encoder), vectors in zip(towers, _vectors(file, len(towers)), strict=True):
        # Sized first, or rows that are written next would be drawn from the statistics of all others.
        rows = len(tokenizer) + (len(vectors) if vectors.dim() > 1 else 1)
        encoder.resize_token_embeddings(rows, mean_resizing=False)
        try:
            _Loader().load_textual_inversion({token: vectors}, token, tokenizer, encoder)
        except ValueError as error:
            raise ModelError(f"{file}: {token} cannot be learned: {error}") from error
        encoder.requires_grad_(False)
        _find_the_end(tokenizer, encoder)


def spelled_out(prompt: str, tokenizer: Any) -> str:
    """``prompt`` with every learned word of several vectors written as that many tokens."""
    spelled: str = _Loader().maybe_convert_prompt(prompt, tokenizer)
    return spelled


def _find_the_end(tokenizer: Any, encoder: torch.nn.Module) -> None:
    """Old configurations (``eos_token_id`` 2, SDXL's among them) pool at the largest token number, which is
    the end only as long as no word is learned."""
    for module in encoder.modules():
        if getattr(module, "eos_token_id", None) == 2:
            module.eos_token_id = tokenizer.eos_token_id


def _vectors(file: Path, towers: int) -> list[Tensor]:
    try:
        held = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error
    names = OF_TWO_TOWERS[:towers] if towers > 1 else tuple(held)
    if set(names) != set(held) or len(names) != towers:
        raise ModelError(
            f"{file} holds {', '.join(sorted(held))}, and a model with {towers} text tower(s) takes "
            f"{'one tensor' if towers == 1 else ' and '.join(OF_TWO_TOWERS)}"
        )
    return [held[name] for name in names]
