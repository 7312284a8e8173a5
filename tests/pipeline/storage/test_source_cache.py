"""Source videos as local files."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

import pipeline.source_cache
from pipeline.errors import SourceError, StoreError
from pipeline.retry import RetryPolicy
from pipeline.settings import StorageSettings
from pipeline.source_cache import SourceCache
from pipeline.store import Store
from tests.pipeline.storage.conftest import make_place
from tests.support.fault_proxy import Fault, Kind, fault_proxy
from tests.support.s3 import S3Bucket, client

ODD_NAME = "-dash ünï ☃ 'q' %20.mp4"


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _open(cache: SourceCache, uri: str) -> tuple[str, str]:
    return cache.local_path(uri)


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, StorageSettings]:
    """Where sources lie: sources of a job are read by many processes."""
    return make_place(request.param, request, tmp_path)


@pytest.fixture
def cache(store: Store, tmp_path: Path) -> SourceCache:
    return SourceCache(str(tmp_path / "cache"), store.storage)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read whole."""
    files: list[str] = []
    real = pipeline.source_cache.file_sha256

    def count(path: str) -> str:
        files.append(path)
        return real(path)

    monkeypatch.setattr(pipeline.source_cache, "file_sha256", count)
    return files


def test_a_source_is_at_hand_with_its_digest(store: Store, cache: SourceCache) -> None:
    store.put(ODD_NAME, b"film")
    path, digest = cache.local_path(store.uri(ODD_NAME))
    assert Path(path).read_bytes() == b"film"
    assert digest == _sha(b"film")
    assert path.endswith(".mp4")
    assert (path == store.uri(ODD_NAME)) == store.local, "a file on disk is used in place"


def test_an_unchanged_source_is_read_whole_once(store: Store, cache: SourceCache, hashed: list[str]) -> None:
    store.put("a.mp4", b"film")
    for _ in range(3):
        again = pickle.loads(pickle.dumps(cache))
        assert again.local_path(store.uri("a.mp4"))[1] == _sha(b"film")
        again.open_verified(store.uri("a.mp4"), _sha(b"film"))
    assert len(hashed) == 1


def test_a_changed_source_is_noticed(store: Store, cache: SourceCache) -> None:
    uri = store.uri("a.mp4")
    store.put("a.mp4", b"old!")
    assert cache.local_path(uri)[1] == _sha(b"old!")
    store.put("a.mp4", b"new!")
    assert cache.local_path(uri)[1] == _sha(b"new!")
    cache.evict(uri, _sha(b"old!"))
    with pytest.raises(SourceError, match="changed during the job") as caught:
        cache.open_verified(uri, _sha(b"old!"))
    assert caught.value.code == "source_changed"
    assert caught.value.facts["found"] == _sha(b"new!")


def test_a_missing_source_is_a_source_error(store: Store, cache: SourceCache) -> None:
    store.put("other", b"")
    for call in (cache.local_path, lambda uri: cache.open_verified(uri, "0" * 64)):
        with pytest.raises(SourceError) as caught:
            call(store.uri("gone.mp4"))
        assert caught.value.code == "missing"
        assert store.uri("gone.mp4") in str(caught.value)


def test_a_folder_is_unreadable(store: Store, cache: SourceCache) -> None:
    store.put("film.mp4/part", b"")
    with pytest.raises(SourceError) as caught:
        cache.local_path(store.uri("film.mp4"))
    assert caught.value.code == "unreadable"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_without_read_permission_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"film")
    (tmp_path / "a.mp4").chmod(0)
    with pytest.raises(SourceError) as caught:
        SourceCache(str(tmp_path / "cache"), StorageSettings()).local_path(str(tmp_path / "a.mp4"))
    assert caught.value.code == "unreadable"


def test_evict_removes_the_copy_and_never_the_source(store: Store, cache: SourceCache) -> None:
    store.put("a.mp4", b"film")
    path, digest = cache.local_path(store.uri("a.mp4"))
    cache.evict(store.uri("a.mp4"), digest)
    cache.evict(store.uri("a.mp4"), digest)
    assert store.read("a.mp4") == b"film"
    assert os.path.exists(path) == store.local
    assert Path(cache.open_verified(store.uri("a.mp4"), digest)).read_bytes() == b"film"


def test_a_planned_version_in_the_cache_needs_no_network(s3: S3Bucket, tmp_path: Path) -> None:
    store, cache = Store(s3.url, s3.storage), SourceCache(str(tmp_path), s3.storage)
    store.put("a.mp4", b"film")
    path, digest = cache.local_path(f"{s3.url}/a.mp4")
    offline = SourceCache(str(tmp_path), StorageSettings("http://127.0.0.1:9"))
    assert offline.open_verified(f"{s3.url}/a.mp4", digest) == path


def test_processes_of_a_node_share_one_download(s3: S3Bucket, tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    Store(s3.url, s3.storage).put("a.mp4", data)
    with fault_proxy(s3.endpoint_url) as proxy:
        cache = SourceCache(str(tmp_path), StorageSettings(proxy.endpoint_url))
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(3, mp_context=context) as pool:
            jobs = [pool.submit(_open, cache, f"{s3.url}/a.mp4") for _ in range(6)]
            assert len({job.result(timeout=60) for job in jobs}) == 1
        assert proxy.count("GET") == 1
    assert sorted(Path(name).suffix for name in os.listdir(tmp_path)) == [".json", ".lock", ".mp4"]


def test_an_interrupted_download_leaves_no_file(s3: S3Bucket, tmp_path: Path) -> None:
    Store(s3.url, s3.storage).put("a.mp4", b"film")
    with fault_proxy(s3.endpoint_url) as proxy:
        quick = RetryPolicy(attempts=3, base=0.01)
        cache = SourceCache(str(tmp_path), StorageSettings(proxy.endpoint_url), quick)
        proxy.faults.append(Fault("GET", "lost", times=1000))
        with pytest.raises(StoreError, match="run the job again"):
            cache.local_path(f"{s3.url}/a.mp4")
        assert [name for name in os.listdir(tmp_path) if not name.endswith(".lock")] == []
        proxy.faults.clear()
        assert cache.local_path(f"{s3.url}/a.mp4")[1] == _sha(b"film")


@pytest.mark.parametrize("kind", ["slow_down", "reset", "lost", "truncated"])
def test_a_shaky_download_is_whole(s3: S3Bucket, tmp_path: Path, kind: Kind) -> None:
    data = os.urandom(1 << 19)
    client(s3.endpoint_url).put_object(Bucket=s3.name, Key="a.mp4", Body=data)  # nobody wrote a digest
    with fault_proxy(s3.endpoint_url, Fault("GET", kind, times=2), Fault("HEAD", kind)) as proxy:
        cache = SourceCache(str(tmp_path), StorageSettings(proxy.endpoint_url), RetryPolicy(base=0.01))
        assert cache.local_path(f"{s3.url}/a.mp4")[1] == _sha(data)
        assert proxy.exhausted


def test_a_damaged_record_is_only_a_lost_memory(tmp_path: Path, hashed: list[str]) -> None:
    source = tmp_path / "a.mp4"
    source.write_bytes(b"film")
    cache = SourceCache(str(tmp_path / "cache"), StorageSettings())
    cache.local_path(str(source))
    for record in (tmp_path / "cache").iterdir():
        record.write_bytes(b"{torn")
    assert cache.local_path(str(source)) == (str(source), _sha(b"film"))
    assert len(hashed) == 2


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"film")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/cache: source cache cannot be written"):
        SourceCache(str(tmp_path / "file" / "cache"), StorageSettings()).local_path(str(tmp_path / "a.mp4"))


def test_a_cache_is_a_plain_value() -> None:
    assert asdict(SourceCache("/tmp/x", StorageSettings())) == {
        "directory": "/tmp/x",
        "storage": {"endpoint_url": None, "options": {}},
        "retry": asdict(RetryPolicy()),
    }
