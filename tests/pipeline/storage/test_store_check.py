"""Refusals before any work: each names the field and the remedy, within about ten seconds."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from pipeline.errors import SpecError
from pipeline.settings import StorageSettings
from pipeline.store import Store
from tests.support.s3 import CREDENTIALS, S3Bucket, make_bucket, moto_server

IN_TIME_SECONDS = 20.0  # eight by design; the rest is for a busy machine


def _refusal(store: Store) -> SpecError:
    begin = time.monotonic()
    with pytest.raises(SpecError) as caught:
        store.check()
    assert time.monotonic() - begin < IN_TIME_SECONDS
    return caught.value


def test_a_missing_bucket_is_named(s3: S3Bucket) -> None:
    error = _refusal(Store("s3://no-such-bucket-here/out", s3.storage))
    assert error.field == "output"
    assert "no-such-bucket-here" in str(error)
    assert "create it" in str(error)


def test_an_endpoint_where_nobody_listens_is_named(s3: S3Bucket) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        error = _refusal(Store(f"{s3.url}/out", StorageSettings(endpoint_url=url)))
    assert error.field == "storage.endpoint_url"
    assert url in str(error)


def test_an_endpoint_that_never_answers_is_given_up(s3: S3Bucket) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        error = _refusal(Store(f"{s3.url}/out", StorageSettings(endpoint_url=url)))
    assert error.field == "storage.endpoint_url"


@pytest.mark.parametrize("url", ["not a url", "localhost:9000", "http://no-such-host.invalid:9000"])
def test_an_endpoint_that_is_no_address_is_named(s3: S3Bucket, url: str) -> None:
    error = _refusal(Store(f"{s3.url}/out", StorageSettings(endpoint_url=url)))
    assert error.field == "storage.endpoint_url"
    assert url in str(error)


def test_wrong_credentials_are_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with moto_server(INITIAL_NO_AUTH_ACTION_COUNT="1") as endpoint:
        bucket = make_bucket(endpoint)
        for name, value in {**CREDENTIALS, "AWS_SECRET_ACCESS_KEY": "wrong"}.items():
            monkeypatch.setenv(name, value)
        error = _refusal(Store(f"{bucket.url}/out", bucket.storage))
    assert error.field == "output"
    assert "AWS_SECRET_ACCESS_KEY" in str(error)
    assert "wrong" not in str(error)


def test_absent_credentials_are_refused_with_the_remedy(
    s3: S3Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    error = _refusal(Store(f"{s3.url}/out", s3.storage))
    assert error.field == "output"
    assert "AWS_ACCESS_KEY_ID" in str(error)


@pytest.mark.parametrize(
    "options", [{"key": "a", "secret": "b"}, {"client_kwargs": {"aws_secret_access_key": "x"}}]
)
def test_credentials_in_the_job_file_are_refused(s3: S3Bucket, options: dict[str, object]) -> None:
    error = _refusal(Store(f"{s3.url}/out", StorageSettings(s3.endpoint_url, options)))
    assert error.field.startswith("storage.options.")
    assert "environment" in str(error)


def test_a_password_in_the_endpoint_is_refused_and_not_repeated(s3: S3Bucket) -> None:
    error = _refusal(Store(f"{s3.url}/out", StorageSettings("http://user:hunter2@host:9000")))
    assert error.field == "storage.endpoint_url"
    assert "hunter2" not in str(error)


def test_an_option_s3_does_not_know_is_refused(s3: S3Bucket) -> None:
    error = _refusal(
        Store(f"{s3.url}/out", StorageSettings(s3.endpoint_url, {"client_kwargs": {"colour": 1}}))
    )
    assert error.field == "storage.options"
    assert "colour" in str(error)


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        error = _refusal(Store(str(root)))
        assert error.field == "output"
        assert "file" in str(error)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a file system that refuses writes")
def test_a_folder_that_cannot_be_written_is_refused() -> None:
    error = _refusal(Store("/proc/self/out"))
    assert error.field == "output"
    assert "/proc/self" in str(error)


@pytest.mark.parametrize("root", ["gs://bucket/out", "http://host/out", "s3://", "memory://"])
def test_storage_without_exclusive_creation_is_refused(root: str) -> None:
    with pytest.raises(SpecError) as caught:
        Store(root)
    assert caught.value.field == "output"
