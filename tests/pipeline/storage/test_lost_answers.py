"""The third outcome of a write: the server acted, the answer was lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.errors import StoreError
from pipeline.settings import StorageSettings
from pipeline.store import Store
from tests.support.dropping_proxy import DroppingProxy, dropping_proxy
from tests.support.s3 import S3Bucket


@pytest.fixture
def proxy(s3: S3Bucket) -> Iterator[DroppingProxy]:
    with dropping_proxy(s3.endpoint_url) as proxy:
        yield proxy


def _store(s3: S3Bucket, proxy: DroppingProxy, attempts: int) -> Store:
    retries = {"retries": {"mode": "standard", "max_attempts": attempts}}
    options = {"config_kwargs": {**retries, "read_timeout": 5}}
    return Store(s3.url, StorageSettings(proxy.endpoint_url, options))


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_create_whose_answer_is_lost_is_known_to_be_ours(
    s3: S3Bucket, proxy: DroppingProxy, attempts: int
) -> None:
    store = _store(s3, proxy, attempts)
    proxy.drop.append("PUT")
    assert store.put_new("row", b"mine")
    assert proxy.seen.count("PUT") > 1, "the client below tried again and was told that it exists"
    assert store.read("row") == b"mine"


def test_a_create_whose_refusal_is_lost_is_known_to_be_refused(s3: S3Bucket, proxy: DroppingProxy) -> None:
    store = _store(s3, proxy, 1)
    Store(s3.url, s3.storage).put_new("row", b"same bytes")
    proxy.drop.append("PUT")
    assert not store.put_new("row", b"same bytes")


def test_a_put_whose_answer_is_lost_is_repeated(s3: S3Bucket, proxy: DroppingProxy) -> None:
    store = _store(s3, proxy, 3)
    proxy.drop.append("PUT")
    store.put("a", b"1")
    assert store.read("a") == b"1"


def test_throttling_is_waited_out(s3: S3Bucket, proxy: DroppingProxy) -> None:
    store = _store(s3, proxy, 3)
    proxy.slow_down.extend(["PUT", "PUT", "GET"])
    assert store.put_new("row", b"mine")
    assert store.read("row") == b"mine"
    assert proxy.slow_down == []
    assert proxy.seen.count("PUT") == 1


def test_storage_that_stays_away_is_a_store_error_that_says_to_resume(
    s3: S3Bucket, proxy: DroppingProxy
) -> None:
    store = _store(s3, proxy, 1)
    store.put("a", b"1")
    proxy.drop.extend(["GET"] * 20)
    with pytest.raises(StoreError, match="run the job again to resume") as caught:
        store.read("a")
    assert caught.value.facts["uri"] == f"{s3.url}/a"
