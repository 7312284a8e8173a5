"""Whether prompts fit what a model's text encoders read: asked of its tokenizers, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import SpecError


def prompts_of(what: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Field, below the ``restore`` or ``stylize`` mapping ``what``, and text of every prompt in it."""
    if what.get("prompt"):
        yield "prompt", what["prompt"]
    for number, part in enumerate(what.get("blend", ())):
        yield f"blend.{number}.prompt", part["prompt"]
    for section in ("method", "content"):
        if what.get(section, {}).get("caption"):
            yield f"{section}.caption", what[section]["caption"]


def require_short(text: str, root: Path, field: str, words: Mapping[str, int]) -> None:
    """Raises SpecError when the encoders of the model below ``root`` would cut ``text`` off, or a tokenizer
    cannot be read. A third encoder (SD3's) reads longer ones. ``words``: vectors of each learned word."""
    folders = [root / name for name in ("tokenizer", "tokenizer_2") if (root / name).is_dir()]
    for folder in [] if (root / "tokenizer_3").is_dir() else folders:
        tokenizer = tokenizer_of(folder)
        tokenizer.add_tokens(list(words))
        found, window = len(tokenizer(text, verbose=False).input_ids), tokenizer.model_max_length
        found += sum((vectors - 1) * text.count(word) for word, vectors in words.items())
        if found > window:
            raise SpecError(
                f"{field}: it has {found} tokens, and the model reads {window} (begin and end included); the "
                f"rest would be cut off: shorten it by {found - window}",
                field=field,
            )


def tokenizer_of(folder: Path) -> Any:
    """The CLIP tokenizer in ``folder``. Raises SpecError when it cannot be read."""
    from transformers import CLIPTokenizer

    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise SpecError(
            f"model: {folder} cannot be read ({type(error).__name__}); fetch the checkpoint again",
            field="model",
        ) from error
