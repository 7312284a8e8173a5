"""What `bench style` compares: every method and every way to keep content that a job file can ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobs.demo.demo import REFERENCE
from jobs.enhance_spec import Stylize
from jobs.spec import parse_spec
from pipeline.errors import SpecError
from pipeline.model_fit import require_model_fit


@dataclass(frozen=True)
class StyleCase:
    """One row: a validated ``enhance`` list of one stylization with every default written out."""

    name: str
    enhance: tuple[dict[str, Any], ...]


def cases() -> tuple[StyleCase, ...]:
    """The default first, then all other methods, then the default method with other ways to keep content:
    those that the embedded model can do with one reference picture and no prompt. Raises SpecError when not
    even the default can."""
    default = _case("default", {})
    if default is None:
        raise SpecError("the default stylization is refused for the embedded model")
    found = {str(default.enhance): default}
    for member in ("method", "content"):
        for name in names_of(member):
            case = _case(name, {member: {"name": name}})
            if case is not None:
                found.setdefault(str(case.enhance), case)
    return tuple(found.values())


def names_of(member: str) -> tuple[str, ...]:
    """The names that ``stylize.method`` or ``stylize.content`` takes, out of the schema of job files."""
    schema = Stylize.model_json_schema()
    return tuple(dict.fromkeys(_names(schema["properties"].get(member, {}), schema.get("$defs", {}))))


def _names(node: Any, sections: dict[str, Any]) -> list[str]:
    if isinstance(node, list):
        return [name for part in node for name in _names(part, sections)]
    if not isinstance(node, dict):
        return []
    if "$ref" in node:
        named = sections[node["$ref"].rpartition("/")[2]].get("properties", {}).get("name", {})
        return [str(name) for name in named.get("enum", [named["const"]] if "const" in named else [])]
    return [name for key in ("allOf", "anyOf", "oneOf") for name in _names(node.get(key, []), sections)]


def _case(name: str, members: dict[str, Any]) -> StyleCase | None:
    item = {"stylize": {"reference": str(REFERENCE), **members}}
    data = {"name": "style", "source": "clip", "output": "out", "enhance": [item]}
    try:
        settings = parse_spec(data).to_settings()
        require_model_fit(settings)
    except SpecError:
        return None
    return StyleCase(name, settings.enhance)
