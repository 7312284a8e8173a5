"""What holds for all deployment files: they parse, they run the pinned Ray, and no credential is in them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.infra.files import INFRA, ROOT, images, objects, pins, walk

FILES = sorted(path for path in INFRA.rglob("*") if path.is_file())
YAML = [path for path in FILES if path.suffix == ".yaml"]
_OURS = re.compile(r"reelweave:(?P<version>[\d.]+)-ray(?P<ray>[\d.]+)-(cpu|cu\d+)")


def name(path: Path) -> str:
    return path.relative_to(INFRA).as_posix()


@pytest.mark.parametrize("path", YAML, ids=name)
def test_yaml_parses_without_a_key_twice(path: Path) -> None:
    for document in yaml.compose_all(path.read_text()):
        for node in _mappings(document):
            keys = [key.value for key, _ in node.value]
            assert len(keys) == len(set(keys)), (path, keys)


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".json"], ids=name)
def test_json_parses(path: Path) -> None:
    assert json.loads(path.read_text())


@pytest.mark.parametrize("path", YAML, ids=name)
def test_images_of_ours_carry_the_pinned_ray_and_others_a_fixed_tag(path: Path) -> None:
    for image in images(objects(name(path))):
        ours = _OURS.search(image)
        if ours:
            assert ours["ray"] == pins()["ray"]
            assert ours["version"] == _project_version()
        else:
            tag = image.rpartition("/")[2].partition(":")[2]
            assert tag not in ("", "latest"), image


@pytest.mark.parametrize("path", YAML, ids=name)
def test_every_ray_version_field_is_the_pinned_one(path: Path) -> None:
    for found in walk(objects(name(path))):
        assert found.get("rayVersion", pins()["ray"]) == pins()["ray"]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_no_file_holds_a_credential(path: Path) -> None:
    """But for those of the storage for development, which say that they open nothing else."""
    text = path.read_text().replace("development-only", "")
    assert not re.search(r"AKIA[0-9A-Z]{16}|-----BEGIN|kind: Secret\b", text)
    assert not re.search(r"(?i)(secret|password|token)[\w-]*[=:]\s*['\"]?[A-Za-z0-9/+]{16,}", text)


def _mappings(node: yaml.Node | None) -> list[yaml.MappingNode]:
    if isinstance(node, yaml.MappingNode):
        inner = [found for pair in node.value for part in pair for found in _mappings(part)]
        return [node, *inner]
    if isinstance(node, yaml.SequenceNode):
        return [found for part in node.value for found in _mappings(part)]
    return []


def _project_version() -> str:
    import tomllib

    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
