"""Credentials stay out of whatever is written down."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from pipeline.errors import SourceError, StoreError
from pipeline.filesystem import typed_errors
from pipeline.manifest import VideoRow, compact, write_quarantined
from pipeline.redact import BLOT, carries_credentials, redacted
from pipeline.store import Store

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789abcdef")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/home/me/.aws/credentials")
    monkeypatch.setenv("MAX_TOKENS", "100000000")


@pytest.mark.parametrize(
    "text",
    [
        f"denied for {SECRET}",
        "denied for wJalrXUtnFEMI%2FK7MDENG%2BbPxRfiCYEXAMPLEKEY",
        "token hf_0123456789abcdef refused",
        "GET https://b.s3/x?X-Amz-Credential=AKIA/2026&X-Amz-Signature=deadbeef01 failed",
        "https://me:hunter2hunter2@host:9000/x",
        "headers {'Authorization': 'AWS4-HMAC-SHA256 Credential=AKIA, Signature=deadbeef01'}",
        "{'aws_secret_access_key': 'another+secret'}",
    ],
)
def test_values_of_the_environment_and_signed_forms_are_blotted_out(text: str) -> None:
    clean = redacted(text)
    assert BLOT in clean
    for secret in (SECRET, "wJalr", "hf_01", "deadbeef", "hunter2", "another+secret"):
        assert secret not in clean
    assert redacted(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "/home/me/.aws/credentials: cannot read it",
        "s3://bucket/a b/100000000.mp4: cannot read it: SlowDown; run the job again",
        "job.yaml:3:1 storage.endpoint_url: http://127.0.0.1:9000 is down",
    ],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert redacted(text) == text


def test_an_address_with_a_key_in_it_is_known() -> None:
    assert carries_credentials("https://h/a?X-Amz-Signature=1f")
    assert carries_credentials("s3://me:hunter2@bucket/a")
    assert not carries_credentials("s3://bucket/sig/token=/a@b:c.mp4")
    assert not carries_credentials("/in/what?sig=1.mp4")


def test_errors_carry_no_credentials_whoever_raised_them() -> None:
    error = SourceError(f"refused {SECRET}", code="unreadable")
    assert SECRET not in str(error) + repr(error) + error.message
    assert SECRET not in str(pickle.loads(pickle.dumps(error)))
    with pytest.raises(StoreError) as caught, typed_errors("s3://b/a", "read it"):
        raise OSError(f"signature of {SECRET} does not match")
    assert SECRET not in str(caught.value)
    assert BLOT in str(caught.value)


def test_a_manifest_row_carries_no_credentials(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_quarantined(
        store, VideoRow("/in/a.mp4", "k", "quarantined", error=f"said {SECRET}", warnings=(f"and {SECRET}",))
    )
    compact(store)
    for path in store.list(""):
        assert SECRET.encode() not in store.read(path)
