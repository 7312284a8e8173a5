"""The digests in a checkpoint's model card: YAML front matter of its README.md, key ``sha256``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from operators.errors import ModelError

CARD = "README.md"
_FENCE = "---\n"


def read_front_matter(root: Path) -> tuple[dict[str, Any], str]:
    """Facts and body of the card below ``root``; no facts where there is no card, or its front matter is no
    YAML mapping (cards of other people's checkpoints come in all forms)."""
    path = root / CARD
    if not path.is_file():
        return {}, ""
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.startswith(_FENCE):
        return {}, text
    head, _, body = text[len(_FENCE) :].partition(f"\n{_FENCE}")
    try:
        facts = yaml.safe_load(head)
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError):
        # PyYAML's constructors let errors of their own pass: ValueError for the 31st of June, for one.
        facts = None
    return (facts, body) if isinstance(facts, dict) else ({}, text)


def write_front_matter(root: Path, facts: Mapping[str, Any], body: str) -> None:
    """Write the card: ``facts`` as YAML, then ``body``."""
    head = yaml.safe_dump(dict(facts), sort_keys=False, allow_unicode=True)
    (root / CARD).write_text(f"{_FENCE}{head}{_FENCE}{body}", encoding="utf-8")


def weight_digests(root: Path) -> dict[str, str]:
    """SHA-256 of every safetensors file below ``root``, by relative path."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*.safetensors"))
    }


def verify_weights(root: Path) -> None:
    """Compare the weights with the digests of the card, where it states some. Raises ModelError naming the
    first file that is missing or differs."""
    stated = read_front_matter(root)[0].get("sha256")
    if not isinstance(stated, dict):
        return
    for name, expected in stated.items():
        path = root / str(name)
        if not path.is_file():
            raise ModelError(f"{path} is missing, though the model card lists it; install the model again")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != expected:
            raise ModelError(
                f"{path} is not the file of the model card (sha256 {found[:12]}, card {str(expected)[:12]}): "
                "truncated, edited or of another version; install the model again"
            )
