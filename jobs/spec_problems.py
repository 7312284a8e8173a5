"""Turns pydantic's findings into sentences about the job file."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from jobs.spec_base import suggestion
from pipeline.errors import SpecError

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "dataclass_type": "a mapping of keys to values",
    "string_pattern_mismatch": "letters, digits, '.', '_' or '-', beginning with a letter or digit",
}


def spec_error(error: ValidationError, data: Any, origin: str) -> SpecError:
    """One SpecError for everything pydantic refused in ``data``.

    ``field`` is the first place; ``problems`` lists all as ``{"field", "problem"}``.
    """
    problems: list[dict[str, str]] = []
    for detail in error.errors(include_url=False):
        where = _place(detail["loc"], data, named=detail["type"] == "missing")
        key = str(detail.get("ctx", {}).get("key", ""))
        if key:
            where = f"{where}.{key}" if where else key
        entry = {"field": where or "(whole file)", "problem": _sentence(dict(detail))}
        # A list with a bad member is also reported as too short; the member says more.
        told = [p["field"] for p in problems]
        if detail["type"] == "too_short" and any(f == where or f.startswith(f"{where}.") for f in told):
            continue
        problems.append(entry)
    lines = [f"{p['field']}: {p['problem']}" for p in problems]
    text = lines[0] if len(lines) == 1 else f"{len(lines)} problems\n  " + "\n  ".join(lines)
    return SpecError(f"{origin}: {text}", field=problems[0]["field"], problems=problems)


def _place(location: tuple[int | str, ...], data: Any, *, named: bool) -> str:
    """Dotted path of ``location`` in ``data``, without the union tags pydantic puts in between.

    ``named`` keeps a last part that ``data`` does not have: the name of what is missing.
    """
    parts: list[str] = []
    here = data
    for position, part in enumerate(location):
        if isinstance(here, list) and isinstance(part, int):
            here = here[part] if part < len(here) else None
        elif isinstance(here, dict) and part in here:
            here = here[part]
        elif not named or position < len(location) - 1:
            continue
        parts.append(str(part))
    return ".".join(parts)


def _sentence(detail: dict[str, Any]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    found = _shown(detail.get("input"))
    if kind == "refused":
        return str(context["sentence"])
    if kind == "missing":
        return "is required and was not given"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, found {found}"
    if kind == "literal_error":
        words = str(context["expected"])
        return f"expected {words}, found {found}{suggestion(detail['input'], _words(words))}"
    if kind == "union_tag_invalid":
        key, words = str(context["discriminator"]).strip("'"), str(context["expected_tags"])
        hint = suggestion(context["tag"], _words(words))
        return f"{key} is {context['tag']!r}, expected one of {words}{hint}"
    if kind == "union_tag_not_found":
        return f"needs the key {context['discriminator']} that says which one is meant, found {found}"
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        return f"must be {words} {context[name]}, found {found}"
    if kind in ("too_short", "string_too_short"):
        least = context["min_length"]
        return "must not be empty" if least == 1 else f"must have at least {least} entries, found {found}"
    if kind == "too_long":
        return f"must have at most {context['max_length']} entries, found {found}"
    if kind == "string_too_long":
        return f"must have at most {context['max_length']} characters, found {len(detail['input'])}"
    return f"{str(detail['msg'])[:1].lower()}{str(detail['msg'])[1:]}, found {found}"


_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def _words(text: str) -> list[str]:
    return [w.strip(" '") for w in text.replace(" or ", ",").split(",")]


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, str):
        return f"the text {value if len(value) <= 60 else value[:57] + '...'!r}"
    return str(value).lower() if isinstance(value, bool) else str(value)
