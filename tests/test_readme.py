"""What the README promises exists: commands, make targets, files, and a job file that validates."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main
import yaml

from jobs.cli import app
from jobs.spec import parse_spec

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_every_command_in_the_readme_exists_and_every_command_has_help() -> None:
    named = set(re.findall(r"reelweave ([a-z][a-z-]*)", README))
    assert named - {"job"} <= COMMANDS
    assert {"demo", "init", "plan", "run", "status", "verify"} <= named
    for command in typer.main.get_command(app).commands.values():  # type: ignore[attr-defined]
        assert command.help


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", README, re.DOTALL))
def test_the_job_files_of_the_readme_validate(block: str) -> None:
    assert parse_spec(yaml.safe_load(block)).to_settings().name


def test_make_targets_and_linked_files_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make ([a-z]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link


def test_pinned_versions_satisfy_what_the_project_asks_for() -> None:
    import tomllib

    from packaging.requirements import Requirement

    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    for line in asked:
        requirement = Requirement(line)
        version = {name.lower(): number for name, number in pinned.items()}[requirement.name.lower()]
        assert requirement.specifier.contains(version), line
