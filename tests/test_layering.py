"""Imports point one way, jobs -> pipeline -> operators, and each room knows only its own trade."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("operators", "pipeline", "jobs")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
NETWORK = {"aiohttp", "boto3", "botocore", "fsspec", "requests", "s3fs", "socket", "urllib"}
ENHANCER = ("pipeline/enhancer.py", "pipeline/enhancement/")


def imports(source: str, package: tuple[str, ...] = ()) -> Iterator[str]:
    """Absolute names of every module that ``source`` imports, wherever in the file; a relative import
    is resolved against ``package``, the parts of the folder the file is in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            yield ".".join(part for part in (base, node.module) if part)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "importlib.import_module",
            "__import__",
        ):
            yield from (
                a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)
            )


def forbidden(name: str) -> set[str]:
    """Top-level packages that the file ``name`` (relative to the repository) must not import."""
    room = name.split("/")[0]
    if room == "operators":
        return {"pipeline", "jobs", "tests", "ray"} | NETWORK
    if room == "pipeline":
        return {"jobs", "tests"} | (
            set() if name.startswith(ENHANCER) else {"operators", "torch", "diffusers"}
        )
    return {"tests"}


def violations(name: str, source: str) -> list[str]:
    package = tuple(name.split("/")[:-1])
    return sorted({m for m in imports(source, package) if m.split(".")[0] in forbidden(name)})


def set_level_calls(source: str) -> list[int]:
    """Lines that call a method ``set_level``: process-wide switches that a library must leave alone."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [node.lineno for node in calls if ast.unparse(node.func).split(".")[-1] == "set_level"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_imports_only_what_its_room_may_know(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    assert violations(name, path.read_text()) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_changes_a_process_wide_log_level(path: Path) -> None:
    assert set_level_calls(path.read_text()) == []


def test_every_room_was_read() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(ROOMS)


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        ("operators/x.py", "import ray.data", ["ray.data"]),
        ("operators/a/x.py", "from ...pipeline import keys", ["pipeline"]),
        ("operators/x.py", "def f():\n    from pipeline.keys import digest", ["pipeline.keys"]),
        ("pipeline/store.py", "import torch.nn as nn", ["torch.nn"]),
        ("pipeline/video/x.py", "from operators import noise", ["operators"]),
        ("pipeline/x.py", "import importlib\nimportlib.import_module('torch')", ["torch"]),
        ("pipeline/enhancer.py", "import torch\nfrom operators import noise\nimport jobs.cli", ["jobs.cli"]),
        (
            "pipeline/enhancement/x.py",
            "import torch\nfrom operators import noise\nimport jobs.cli",
            ["jobs.cli"],
        ),
        ("pipeline/enhancer_config.py", "import torch", ["torch"]),
        ("pipeline/video/x.py", "from .index import y\nfrom ..errors import z", []),
        ("jobs/cli.py", "import pipeline, operators, torch", []),
    ],
)
def test_the_rule_itself_finds_what_it_should(name: str, source: str, found: list[str]) -> None:
    assert violations(name, source) == found


def test_the_level_rule_itself_finds_a_call() -> None:
    assert set_level_calls("import av\nav.logging.set_level(3)\nset_level_of = 1\n") == [2]
