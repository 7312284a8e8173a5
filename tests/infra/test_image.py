"""The image: the pinned Ray below it, the pinned packages in it, nobody's credentials, no root."""

from __future__ import annotations

import fnmatch
import re
import tomllib

import pytest

from tests.infra.files import INFRA, ROOT, pins

LINES = [
    line
    for line in (INFRA / "image" / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]
IGNORED = [
    line
    for line in (INFRA / "image" / "Dockerfile.dockerignore").read_text().splitlines()
    if line and not line.startswith("#")
]


def steps(instruction: str) -> list[str]:
    return [line.partition(" ")[2].strip() for line in LINES if line.split()[0] == instruction]


def test_the_base_is_the_pinned_ray_on_the_tested_python() -> None:
    assert f"RAY_VERSION={pins()['ray']}" in steps("ARG")
    python = (ROOT / "constraints.txt").read_text().splitlines()[0]
    assert "Python 3.11" in python
    assert steps("FROM")[0] == "rayproject/ray:${RAY_VERSION}-py311-${PLATFORM} AS ray"
    assert [line.split(" ")[0] for line in steps("FROM")[1:]] == ["ray", "ray"]


def test_everything_is_installed_at_the_versions_of_constraints() -> None:
    assert "constraints.txt /tmp/constraints.txt" in steps("COPY")
    installs = [part for line in steps("RUN") for part in line.split("&&") if "pip install" in part]
    assert len(installs) == 2
    for install in installs:
        assert "-c /tmp/constraints.txt" in install or "grep '^torch==' /tmp/constraints.txt" in install
    assert any(line.startswith("torch==") for line in (ROOT / "constraints.txt").read_text().splitlines())


def test_it_ends_as_a_user_who_is_not_root() -> None:
    assert steps("USER")[-1] == "ray"
    assert "root" not in " ".join(steps("USER"))


@pytest.mark.parametrize("source", sorted({part for line in steps("COPY") for part in line.split()[:-1]}))
def test_what_is_copied_exists_and_reaches_the_builder(source: str) -> None:
    if source.startswith(("--", "/tmp/")):
        return
    assert (ROOT / source).exists()
    assert f"!{source}" in IGNORED


def test_every_package_of_the_project_is_in_the_image() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tops = {package.partition(".")[0] for package in project["tool"]["setuptools"]["packages"]}
    assert tops <= {line.split()[-1] for line in steps("COPY")}
    assert {"cluster", "lora"} <= project["project"]["optional-dependencies"].keys()
    assert any("[cluster,lora]" in line for line in steps("RUN"))


def test_nothing_reaches_the_builder_but_what_is_named() -> None:
    assert IGNORED[0] == "*"
    for path in ("infra/kuberay/base/job.yaml", ".git/config", "job.yaml", ".venv/bin/python", "tests/x.py"):
        assert not any(fnmatch.fnmatch(path, f"{kept[1:]}*") for kept in IGNORED if kept.startswith("!"))


def test_no_argument_or_variable_of_the_build_is_a_secret() -> None:
    names = re.findall(r"\b([A-Z_]+)=", " ".join(steps("ARG") + steps("ENV")))
    assert names
    assert not [name for name in names if re.search("KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL", name)]
