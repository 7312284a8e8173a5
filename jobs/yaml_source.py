"""Reading a job file: plain YAML data, strict about duplicates, and `--set a.b=c` overrides.

The dialect is the YAML 1.2 core schema: ``1e-3`` is a number, ``no`` and ``2024-01-01`` are text.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from pipeline.errors import SpecError

_MAX_BYTES = 1 << 20


class _Loader(yaml.SafeLoader):
    """Safe loader without YAML 1.1's surprises, without aliases, refusing duplicate keys."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (the parent's protocol)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.get_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem="aliases are not supported; write the value out", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a single word", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} appears twice; keep one", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        """Characters that JSON writes as two escapes come out as one; half of a pair is none."""
        value: Any = super().construct_scalar(node)
        if not isinstance(value, str):
            return value
        try:
            return value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise yaml.MarkedYAMLError(
                problem="an escape is half of a surrogate pair and no character", problem_mark=node.start_mark
            ) from None


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would read as something else than text."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(node.value, 16) if "0x" in node.value else int(node.value)


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)
for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?[0-9]{1,30}|0x[0-9a-fA-F]{1,16})$", list("-+0123456789")),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def parse_yaml(text: str, *, field: str, origin: str) -> Any:
    """Plain data of a YAML text. Raises SpecError with line and column when it is not valid."""
    if len(text) > _MAX_BYTES:
        raise SpecError(f"{origin}: larger than 1 MiB; that is no job file", field=field)
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        why = error.problem or error.context
        raise SpecError(f"{origin}: not valid YAML{place}: {why}", field=field) from None
    except (yaml.YAMLError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else "unreadable"
        raise SpecError(f"{origin}: not valid YAML: {first}", field=field) from None
    except RecursionError:
        raise SpecError(f"{origin}: nested too deeply to be a job file", field=field) from None


def dump_yaml(data: dict[str, Any]) -> str:
    """Plain data as YAML that `parse_yaml` reads back unchanged, keys in their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False)


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set one ``a.b.0.c=value`` in place; missing mappings are created, list positions must exist.

    Raises SpecError naming the path when it cannot be followed.
    """
    path, equals, value = override.partition("=")
    path = path.strip()
    parts = path.split(".")
    if not equals or not all(parts):
        raise SpecError(
            f"--set {override}: expected a path and a value such as encode.crf=20", field=path or "--set"
        )
    set_value(data, path, parse_yaml(value, field=path, origin=f"--set {path}"))


def set_value(data: dict[str, Any], path: str, value: Any) -> None:
    """Set ``a.b.0.c`` to plain data in place; missing mappings are created, list positions must exist.

    Raises SpecError naming the path when it cannot be followed.
    """
    parts = path.split(".")
    here: Any = data
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        here = _enter(here, part, value if last else {}, last, ".".join(parts[:depth]), path)


def _enter(here: Any, part: str, value: Any, last: bool, above: str, path: str) -> Any:
    if isinstance(here, list):
        if not re.fullmatch(r"[0-9]{1,6}", part) or int(part) >= len(here):
            raise SpecError(
                f"--set {path}: {above} is a list of {len(here)}; "
                f"expected a position below that, found {part!r}",
                field=path,
            )
        position = int(part)
        if last:
            here[position] = value
        return here[position]
    if not isinstance(here, dict):
        raise SpecError(f"--set {path}: {above} is a single value and has no part {part!r}", field=path)
    if last or here.get(part) is None:
        here[part] = value
    return here[part]
