"""A real S3 endpoint for tests: moto's server in a process of its own, reached over HTTP.

Import the fixtures into a conftest: ``from tests.support.s3 import s3, s3_server  # noqa: F401``.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import botocore.session
import pytest
from botocore.config import Config

from pipeline.settings import StorageSettings

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""What a client needs in its environment; workers of a cluster inherit it."""

_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()  # ends with the parent
"""


@dataclass(frozen=True)
class S3Bucket:
    """A fresh bucket. ``url`` has no trailing slash; ``storage`` goes into Store and the like."""

    endpoint_url: str
    name: str

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    @property
    def storage(self) -> StorageSettings:
        return StorageSettings(endpoint_url=self.endpoint_url)


@contextlib.contextmanager
def moto_server(**environment: str) -> Iterator[str]:
    """Runs moto's server as a child process and yields its endpoint URL once it answers."""
    child = subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **CREDENTIALS, **environment},
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        endpoint = f"http://127.0.0.1:{int(child.stdout.readline())}"
        with urllib.request.urlopen(f"{endpoint}/moto-api/data.json", timeout=20):
            yield endpoint
    finally:
        child.stdin.close()
        child.terminate()
        child.wait(timeout=20)
        child.stdout.close()


@functools.cache
def client(endpoint_url: str):
    """A plain botocore client of the endpoint, independent of the code under test."""
    session = botocore.session.Session()
    return session.create_client(
        "s3",
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"max_attempts": 1}),
    )


def make_bucket(endpoint_url: str) -> S3Bucket:
    bucket = S3Bucket(endpoint_url, f"bucket-{uuid.uuid4().hex[:12]}")
    client(endpoint_url).create_bucket(Bucket=bucket.name)
    return bucket


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Endpoint URL of a server that lives as long as the test session."""
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> S3Bucket:
    """A fresh bucket, with credentials for it in the environment."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return make_bucket(s3_server)
