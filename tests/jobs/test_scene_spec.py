"""Scenes with settings of their own: read from the job file, refused where they cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.spec import parse_spec
from jobs.yaml_source import parse_yaml
from pipeline.errors import SpecError

STYLIZE = {"stylize": {"reference": "/styles/ink.png"}}
DENOISE = {"restore": {"degradation": {"kind": "denoise", "noise": 0.05}}}
BASE: dict[str, Any] = {"name": "j", "source": "/in/*.mp4", "output": "/out", "enhance": [DENOISE, STYLIZE]}


def entry(path: str, value: Any, **members: Any) -> dict[str, Any]:
    return {"video": "*.mp4", "scenes": [0, 3], **members, "set": {path: value}}


def refusal(*scenes: dict[str, Any]) -> SpecError:
    with pytest.raises(SpecError) as caught:
        parse_spec({**BASE, "scenes": list(scenes)})
    return caught.value


def test_an_entry_becomes_the_whole_list_of_its_scenes_and_leaves_the_jobs_alone() -> None:
    text = """
scenes:
  - {video: "1921/*.mp4", scenes: [0, 3], set: {enhance.1.stylize.strength: 0.3}}
  - {video: film.mp4, set: {enhance.1.stylize.colour_lock: true, enhance.0.restore.degradation.noise: 0.1}}
"""
    settings = parse_spec({**BASE, **parse_yaml(text, field="", origin="")}).to_settings()
    first, second = settings.scenes
    assert (first.video, first.scenes, second.scenes) == ("1921/*.mp4", (0, 3), None)
    assert first.enhance[0] == second.enhance[0] | first.enhance[0] == settings.enhance[0]
    assert first.enhance[1]["stylize"] == {**settings.enhance[1]["stylize"], "strength": 0.3}
    assert second.enhance[1]["stylize"]["colour_lock"] is True
    assert second.enhance[0]["restore"]["degradation"]["noise"] == 0.1
    assert settings.enhance[1]["stylize"]["strength"] == 0.8


def test_a_job_with_scenes_survives_being_written_and_read() -> None:
    spec = parse_spec({**BASE, "scenes": [entry("enhance.1.stylize.strength", 0.3)]})
    assert parse_spec(parse_yaml(spec.to_yaml(), field="", origin="")) == spec


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("enhance.1.stylize.strength", 2.0, "must be at most 1"),
        ("enhance.1.stylize.strenght", 0.5, "strength"),
        ("enhance.2.stylize.strength", 0.5, "list of 2"),
        ("enhance.1.stylize.reference", "/styles/other.png", "the same for all scenes"),
        ("enhance.1.stylize.method.steps", 5, "the same for all scenes"),
        ("enhance.1.stylize.keep", "/masks/face.png", "the same for all scenes"),
        ("enhance.0.restore.degradation", {"kind": "super_resolution", "scale": 2}, "the same for all"),
        ("enhance.0.restore.degradation", "auto", "for whole videos or for none"),
        ("enhance.1", DENOISE, "is a stylize in all scenes"),
        ("enhance.0.restore.solver.name", "nonsense", "expected one of"),
        ("enhance.1.stylize.prompt", "ink", "reads no text"),
        ("encode.crf", 20, "the same for all scenes"),
    ],
)
def test_what_scenes_cannot_have_of_their_own_is_refused_naming_the_entry(
    path: str, value: Any, told: str
) -> None:
    error = refusal(entry("enhance.1.stylize.strength", 0.5), entry(path, value))
    assert told in str(error)
    assert (error.field or "").startswith("scenes.1.set")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"scenes": []}, "scenes.0.scenes"),
        ({"scenes": [-1]}, "scenes.0.scenes.0"),
        ({"video": ""}, "scenes.0.video"),
        ({"set": {}}, "scenes.0.set"),
        ({"sets": {}}, "scenes.0.sets"),
    ],
)
def test_entries_that_say_nothing_are_refused(changes: dict[str, Any], field: str) -> None:
    assert refusal({**entry("enhance.1.stylize.strength", 0.5), **changes}).field == field
