"""The page `jobs/JOB_FILE.md`: every field of a job file, made from the models that validate job files.

Sections are described by the docstrings of their models, fields by type, range and default, which
`jobs.schema` knows; only the words on the fields of the top level are written here.
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.schema import job_schema
from pipeline import settings

MEANINGS = {
    "name": "of the job: shown in reports and histories of runs",
    "seed": "of all noise; the same seed, job and source give the same pictures",
    "source": "path, pattern (`**` crosses folders), URL, list of these, or a `.parquet` with a column `uri`",
    "output": "folder or URL; results go to `videos/` below it",
    "storage": "how object storage is reached; credentials come from the environment only",
    "model": "`embedded`, a folder in diffusers' layout, or a hub id",
    "precision": "of the network; `auto`: fp32 on CPUs, bf16 on GPUs",
    "autoencoder": "`vae`: the model's; `analytic`: the linear transform behind the embedded one, for drafts",
    "adapters": "what is added to the model, in order",
    "enhance": "what is done to the frames, in order; `[]` only encodes again",
    "consistency": "how frames of a scene come to agree",
    "encode": "codec and container of the results",
    "video": "what is done with sources that are not plain",
    "provenance": "what outputs say of themselves",
    "cluster": "where the job runs",
    "limits": "larger sources are refused before anything is decoded",
    "torch_threads": "of one actor on CPU; their number changes bits",
    "scenes": "scenes of some videos with settings of their own",
}
_HEAD = """# The job file

Every field, with what it takes and what it is when left out. Written by `jobs.job_reference.reference_text`;
a test compares it. `reelweave init` writes a commented job file, `reelweave schema` the same as JSON Schema
for editors, and `reelweave plan` says what does not go together. Relative paths start at the current
directory. A field is set on the command line as `--set a.b.0.c=value`. Where no default is given there is
none; numbers of solvers then suit the rest.
"""
_WIDTH = 120
_NUMBERS = {"integer": "whole number", "number": "number"}
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_NOTHING = {"type": "null"}


def reference_text() -> str:
    """The page, Markdown."""
    schema = job_schema()
    page = _Page(schema["$defs"])
    top = page.table(schema, "", MEANINGS)
    return "\n".join([_HEAD, *top, "", *page.sections()])


class _Page:
    """Sections are told in the order in which they are referred to, each once, under its first place."""

    def __init__(self, models: Mapping[str, Any]) -> None:
        self._models = models
        self._headings: dict[str, str] = {}

    def sections(self) -> Iterator[str]:
        """Those referred to so far, and those that they refer to."""
        told: set[str] = set()
        while waiting := [name for name in self._headings if name not in told]:
            name = waiting[0]
            told.add(name)
            model, heading = self._models[name], self._headings[name]
            yield from (f"## {heading}", "", *textwrap.wrap(_described(model), _WIDTH), "")
            yield from (*self.table(model, heading.partition(":")[0], {}), "")

    def table(self, model: Mapping[str, Any], place: str, meanings: Mapping[str, str]) -> list[str]:
        """A row per field of a model that stands at ``place``."""
        fields = model.get("properties", {})
        meant = ["meaning"] if meanings else []
        lines = [_row("field", *meant, "takes", "default"), _row(*["---"] * (3 + len(meant)))]
        for name, field in fields.items():
            takes = self._takes(field, f"{place}.{name}" if place else name)
            default = _default(field, required=name in model.get("required", ()))
            lines.append(_row(f"`{name}`", *([meanings[name]] if meanings else []), takes, default))
        return lines if fields else []

    def _takes(self, field: Mapping[str, Any], place: str) -> str:
        if "$ref" in field:
            return self._link(field["$ref"].rpartition("/")[2], place)
        choices = [one for one in (*field.get("anyOf", ()), *field.get("oneOf", ())) if one != _NOTHING]
        if choices:
            return " or ".join(dict.fromkeys(self._takes(one, place) for one in choices))
        if "const" in field:
            return f"`{field['const']}`"
        if "enum" in field:
            return ", ".join(f"`{word}`" for word in field["enum"])
        if field.get("type") == "array":
            return self._list(field, place)
        if field.get("type") in _NUMBERS:
            bounds = [f"{sign} {_number(field[key])}" for key, sign in _BOUNDS.items() if key in field]
            return " ".join([_NUMBERS[field["type"]], ", ".join(bounds)]).strip()
        return {"boolean": "`true`, `false`", "object": "a mapping"}.get(field.get("type", ""), "text")

    def _list(self, field: Mapping[str, Any], place: str) -> str:
        if "prefixItems" in field:
            return f"[{', '.join(self._takes(one, place) for one in field['prefixItems'])}]"
        return f"list of {self._takes(field.get('items', {}), place)}"

    def _link(self, name: str, place: str) -> str:
        heading = self._headings.setdefault(name, _heading(self._models[name], place))
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        return f"[{heading.partition(': ')[2] or heading}](#{anchor})"


def _heading(model: Mapping[str, Any], place: str) -> str:
    """The place in the job file, and the words that choose this model there."""
    words: list[str] = []
    for name in ("kind", "kernel", "name"):
        field = model.get("properties", {}).get(name, {})
        words += [field["const"]] if "const" in field else field.get("enum", []) if name == "name" else []
    if place == "adapters":
        # Told apart by their first field, not by a word in it.
        words.append(next(iter(model["properties"])))
    return f"{place}: {', '.join(words)}" if words else place


def _described(model: Mapping[str, Any]) -> str:
    """The model's docstring, and that of the settings it refers to."""
    text = " ".join(str(model.get("description", "")).split())
    found = re.search(r"[;,]? see `pipeline\.settings\.(\w+)`", text)
    if not found:
        return text
    behind = " ".join((inspect.getdoc(getattr(settings, found[1])) or "").split())
    lead, _, rest = text.replace(found[0], "").partition(".")
    return f"{behind} {rest.strip()}" if behind.startswith(lead) else f"{lead}. {rest.strip()} {behind}"


def _default(field: Mapping[str, Any], *, required: bool) -> str:
    if required:
        return "required"
    value = field.get("default")
    if isinstance(value, dict):
        return f"`{value['name']}`" if "name" in value else ""
    return "" if value is None else f"`{json.dumps(value)}`"


def _number(value: float) -> str:
    return f"{value:,}".replace(",", "_") if isinstance(value, int) and value < 2**53 else f"{value:g}"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
