"""All kinds of storage, so that one suite can hold for all."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from pipeline.settings import StorageSettings
from pipeline.store import Store
from tests.support.s3 import s3, s3_server

__all__ = ["s3", "s3_server"]


@pytest.fixture(params=["local", "s3", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, StorageSettings]:
    """An empty root URL and its settings, on local disk, in S3 and in memory."""
    if request.param == "local":
        return str(tmp_path / "root"), StorageSettings()
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/root", StorageSettings()
    bucket = request.getfixturevalue("s3")
    return f"{bucket.url}/some folder", bucket.storage


@pytest.fixture
def store(place: tuple[str, StorageSettings]) -> Store:
    return Store(*place)
