"""All kinds of storage, so that one suite can hold for all."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from pipeline.settings import StorageSettings
from pipeline.store import Store
from tests.support.s3 import s3, s3_server

__all__ = ["s3", "s3_server"]


def make_place(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, StorageSettings]:
    """An empty root URL of a kind of storage, and its settings."""
    if kind == "local":
        return str(tmp_path / "root"), StorageSettings()
    if kind == "memory":
        return f"memory://{uuid.uuid4().hex}/root", StorageSettings()
    bucket = request.getfixturevalue("s3")
    return f"{bucket.url}/some folder", bucket.storage


@pytest.fixture(params=["local", "s3", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, StorageSettings]:
    """A root of every kind of storage; tests about what several processes share override it."""
    return make_place(request.param, request, tmp_path)


@pytest.fixture
def store(place: tuple[str, StorageSettings]) -> Store:
    return Store(*place)
