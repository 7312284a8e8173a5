"""The page on the job file says all that the models take, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobs.job_reference import MEANINGS, reference_text
from jobs.schema import job_schema
from jobs.spec import JobSpec

ROOT = Path(__file__).resolve().parents[2]
PAGE = reference_text()
SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)


def test_the_page_is_what_the_models_say() -> None:
    told = (ROOT / "jobs" / "JOB_FILE.md").read_text()
    assert told == PAGE, "python -c 'from jobs.job_reference import *; print(reference_text(), end=\"\")'"


def test_every_field_of_the_top_level_has_its_words() -> None:
    assert list(MEANINGS) == list(JobSpec.model_fields)


def test_every_model_has_one_section_and_every_field_a_row() -> None:
    models = job_schema()["$defs"]
    assert len(SECTIONS) - 1 == len(models)
    headings = [section.partition("\n")[0] for section in SECTIONS[1:]]
    assert len(set(headings)) == len(headings)
    tables = {tuple(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) for section in SECTIONS[1:]}
    assert tables == {tuple(model["properties"]) for model in models.values()}


def test_every_link_of_the_page_leads_to_a_section() -> None:
    anchors = {
        re.sub(r"[^\w\- ]", "", section.partition("\n")[0].lower()).replace(" ", "-")
        for section in SECTIONS[1:]
    }
    links = set(re.findall(r"\]\(#([^)]+)\)", PAGE))
    assert links == anchors


@pytest.mark.parametrize(
    ("row", "section"),
    [
        ("| `crf` | whole number >= 0, <= 63 | `18` |", "encode"),
        ("| `steps` | whole number >= 1, <= 999 |  |", "enhance.restore.solver: stsl"),
        ('| `c2pa` | `auto`, `embed`, `sidecar`, `off` | `"auto"` |', "provenance"),
        ("| `actors` | [whole number >= 1, whole number >= 1] | `[1, 2]` |", "cluster"),
        (
            "| `scale` | whole number >= 2, <= 16 | required |",
            "enhance.restore.degradation: super_resolution",
        ),
    ],
)
def test_a_row_says_type_range_and_default(row: str, section: str) -> None:
    (found,) = (text for text in SECTIONS if text.startswith(f"{section}\n"))
    assert row in found.splitlines()
