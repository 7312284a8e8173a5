"""The pages on solvers and degradations name all there are, and every operator has its sheet."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import cv2

import operators.degradations
from jobs.bench.sheet_cases import cases
from operators.degradations import registry
from operators.degradations.base import ForwardOperator
from operators.solvers.registry import METHODS

ROOT = Path(__file__).resolve().parent.parent
SOLVERS = ROOT / "operators" / "solvers" / "README.md"
DEGRADATIONS = ROOT / "operators" / "degradations" / "README.md"


def forward_operators() -> set[str]:
    """Names of all operators that can be built and are nobody's base."""
    found = set()
    for module in pkgutil.iter_modules(operators.degradations.__path__):
        members = vars(importlib.import_module(f"operators.degradations.{module.name}")).values()
        kinds = {m for m in members if inspect.isclass(m) and issubclass(m, ForwardOperator)}
        found |= {kind.__name__ for kind in kinds if not kind.__subclasses__()}
    return found


def test_every_solver_of_the_registry_has_a_row_and_a_price() -> None:
    text = SOLVERS.read_text()
    for name in METHODS:
        assert f"| `{name}` |" in text, name
    priced = text.split("## What a step costs")[1].split("## Known bias")[0]
    for name in set(METHODS) - {"cddb"}:
        assert f"`{name}`" in priced, name


def test_every_degradation_of_a_job_file_and_every_operator_has_a_row() -> None:
    text = DEGRADATIONS.read_text()
    for kind in registry._BUILDERS:
        assert f"| `{kind}`" in text, kind
    for name in forward_operators():
        assert f"`{name}`" in text, name


def test_every_operator_has_a_sheet_that_opens_and_together_they_are_small() -> None:
    text = DEGRADATIONS.read_text()
    size = 0
    for name in cases():
        path = DEGRADATIONS.parent / "sheets" / f"{name}.jpg"
        assert f"](sheets/{name}.jpg)" in text, name
        assert cv2.imread(str(path)) is not None, path
        size += path.stat().st_size
    assert size < 600_000
    shown = {type(case.build(128, 160, case.frames)).__name__ for case in cases().values()}
    # Of one family, from Python or tests only; these have no picture of their own.
    assert forward_operators() - shown == {
        "CubicSubsampling",
        "DenseOperator",
        "NonlinearComposition",
        "PhaseRetrieval",
        "SeparableComposition",
        "WindowBlur",
    }


def test_the_links_of_both_pages_lead_somewhere() -> None:
    for page in (SOLVERS, DEGRADATIONS):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert link.startswith("http") or (page.parent / link).exists(), link
