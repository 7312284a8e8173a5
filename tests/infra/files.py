"""Where the deployment files lie, and what they must agree with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
INFRA = ROOT / "infra"


def pins() -> dict[str, str]:
    """Package -> version of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def objects(*path: str) -> list[dict[str, Any]]:
    """The YAML documents of a file below infra/."""
    return [found for found in yaml.safe_load_all(INFRA.joinpath(*path).read_text()) if found]


def only(*path: str) -> dict[str, Any]:
    """The one YAML document of a file below infra/."""
    (found,) = objects(*path)
    return found


def walk(value: Any) -> Any:
    """Every mapping inside a document, itself included."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


def images(document: Any) -> list[str]:
    """The image of every container in a document."""
    return [found["image"] for found in walk(document) if isinstance(found.get("image"), str)]
