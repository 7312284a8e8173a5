"""The published schema of the job file: what editors say of a file agrees with what a run says of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.init import job_template
from jobs.schema import FILE_NAME, job_schema
from jobs.spec import parse_spec
from jobs.yaml_source import parse_yaml
from pipeline.errors import SpecError

SCHEMA = job_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
BASE = {"name": "batch-7", "source": "in/*.mp4", "output": "out"}
EVERYTHING: dict[str, Any] = {
    **BASE,
    "source": ["in/*.mp4", "s3://bucket/in/a.mkv"],
    "storage": {"endpoint_url": "http://localhost:9000", "config_kwargs": {"retries": 3}},
    "adapters": [
        {"lora": "ink.safetensors", "weight": 0.5},
        {"textual_inversion": "word.safetensors", "token": "<mine>"},
        {"controlnet": "tile/", "condition": "tile", "weight": 0.7},
        {"ip_adapter": "ip/", "scale": 0.6, "layers": "style"},
    ],
    "enhance": [
        {
            "restore": {
                "degradation": {"kind": "deblur", "kernel": "motion", "length": 9, "noise": 0.01},
                "solver": {"name": "ldps", "steps": 50, "scale": 0.5},
            }
        },
        {"restore": {"degradation": "auto", "solver": {"name": "dpir", "steps": 3}}},
        {"stylize": {"reference": "ink.png", "method": {"name": "style_aligned"}, "strength": 0.6}},
    ],
    "consistency": {"sharing": "knots", "anchors": 2, "noise": {"rho": 0.5}},
    "encode": {"codec": "libx265", "crf": 20, "container": "mkv"},
    "video": {"assume_fps": "30000/1001", "partial": True},
    "cluster": {"actors": [1, 4], "gpus_per_actor": 0.5},
    "limits": {"max_seconds": 60},
}


def accepted(job: Any) -> bool:
    try:
        parse_spec(job)
    except SpecError:
        return False
    return True


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        yield (*path, name)
        yield from leaves(child, (*path, name))


def changed(job: Any, path: tuple[Any, ...], value: Any) -> Any:
    whole = copy.deepcopy(job)
    here = whole
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = value
    return whole


def test_the_schema_is_a_valid_one_and_says_which_dialect_it_is_in() -> None:
    assert SCHEMA["$schema"].endswith("2020-12/schema")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert "discriminator" not in json.dumps(SCHEMA)


@pytest.mark.parametrize("job", [BASE, EVERYTHING, parse_yaml(job_template(), field="", origin="")])
def test_what_a_run_takes_the_schema_takes(job: Any) -> None:
    assert accepted(job)
    assert list(VALIDATOR.iter_errors(job)) == []


def test_the_schema_never_refuses_what_a_run_takes_whatever_one_value_is_changed_to() -> None:
    odd: list[Any] = [None, True, -1, 1, 3.5, 1e9, "", "auto", "knots", [], {}]
    took = refused = 0
    for path in leaves(EVERYTHING):
        for value in odd:
            job = changed(EVERYTHING, path, value)
            if accepted(job):
                assert VALIDATOR.is_valid(job), (path, value)
                took += 1
            else:
                refused += not VALIDATOR.is_valid(job)
    assert took > 50
    assert refused > 300


@pytest.mark.parametrize(
    "bad",
    [
        {"enhanse": []},
        {"seed": "seven"},
        {"seed": -1},
        {"name": "a/../b"},
        {"source": []},
        {"output": None},
        {"precision": "fp8"},
        {"adapters": [{"weight": 1.0}]},
        {"adapters": [{"lora": "ink.safetensors", "weight": 5.0}]},
        {"adapters": [{"controlnet": "tile/", "condition": "hed"}]},
        {"adapters": [{"ip_adapter": "ip/", "layers": "layout"}]},
        {"enhance": [{"restore": {}}]},
        {"enhance": [{"restore": {"degradation": {"kind": "denoise"}}}]},
        {"enhance": [{"restore": {"degradation": {"kind": "denoise", "noise": 2.0}}}]},
        {"enhance": [{"restore": {"degradation": "automatic"}}]},
        {"enhance": [{"stylize": {"reference": "a.png", "strength": 0}}]},
        {"consistency": {"sharing": "chunks"}},
        {"encode": {"crf": 99}},
        {"cluster": {"actors": [1]}},
        {"video": {"alpha": "yes"}},
    ],
)
def test_both_refuse_what_is_wrong_by_itself(bad: dict[str, Any]) -> None:
    job = {**BASE, **bad}
    assert not accepted(job)
    assert not VALIDATOR.is_valid(job)


def test_every_key_of_the_file_and_every_section_is_in_the_schema_with_what_it_means() -> None:
    assert set(EVERYTHING) <= set(SCHEMA["properties"])
    assert all(section.get("description") for section in SCHEMA["$defs"].values())


def test_init_writes_the_schema_that_its_first_line_names_and_spares_one_that_is_there(
    tmp_path: Path,
) -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["init", str(tmp_path / "a.yaml")]).exit_code == 0
    first = (tmp_path / "a.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={FILE_NAME}"
    assert json.loads((tmp_path / FILE_NAME).read_text()) == SCHEMA
    (tmp_path / FILE_NAME).write_text("mine")
    assert runner.invoke(app, ["init", str(tmp_path / "b.yaml")]).exit_code == 0
    assert (tmp_path / FILE_NAME).read_text() == "mine"
    assert runner.invoke(app, ["init", str(tmp_path / "b.yaml"), "--force"]).exit_code == 0
    assert json.loads((tmp_path / FILE_NAME).read_text()) == SCHEMA


def test_the_schema_command_prints_it_and_nothing_else() -> None:
    done = CliRunner().invoke(app, ["schema"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == SCHEMA
