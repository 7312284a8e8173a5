"""One suite for every kind of output root: what the commit protocols rely on."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import pickle
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import SpecError, StoreError
from pipeline.filesystem import ObjectMissingError
from pipeline.store import TEMPORARY_PREFIX, Store
from tests.support.s3 import S3Bucket

ODD_NAME = "-dash ünï ☃ 'q' %20.mp4"


def _create(store: Store, rel: str, data: bytes) -> bool:
    return store.put_new(rel, data)


def test_an_object_reads_back_as_it_was_written(store: Store) -> None:
    store.put("a/b.bin", b"\x00\xffdata")
    assert store.read("a/b.bin") == b"\x00\xffdata"
    assert store.size("a/b.bin") == 6
    assert store.exists("a/b.bin")
    assert store.sha256("a/b.bin") == hashlib.sha256(b"\x00\xffdata").hexdigest()


def test_an_empty_object_is_an_object(store: Store, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    store.put_file("e", empty)
    assert store.exists("e")
    assert store.read("e") == b""


def test_a_second_put_replaces_the_first_at_once(store: Store) -> None:
    store.put("a", b"old")
    assert store.exists("a")
    store.put("a", b"newer")
    assert (store.read("a"), store.size("a")) == (b"newer", 5)


def test_a_large_file_goes_up_and_comes_down_whole(store: Store, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 13
    (tmp_path / "up").write_bytes(data)
    store.put_file("big.bin", tmp_path / "up")
    store.get_file("big.bin", tmp_path / "sub" / "down")
    assert (tmp_path / "sub" / "down").read_bytes() == data
    assert os.listdir(tmp_path / "sub") == ["down"]


def test_an_absent_object_is_missing_by_type_and_by_name(store: Store, tmp_path: Path) -> None:
    assert not store.exists("nothing")
    assert store.stat_size("nothing") is None
    for action in (store.read, store.size, store.sha256, lambda rel: store.get_file(rel, tmp_path / "x")):
        with pytest.raises(ObjectMissingError, match="nothing: cannot"):
            action("nothing")
    assert not (tmp_path / "x").exists()
    store.delete("nothing")


def test_a_folder_is_not_an_object(store: Store) -> None:
    store.put("folder/a", b"1")
    assert not store.exists("folder")


def test_a_missing_local_file_is_named_as_such(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ObjectMissingError, match="never-made"):
        store.put_file("a", tmp_path / "never-made")
    assert not store.exists("a")


def test_a_listing_is_relative_sorted_and_fresh(store: Store) -> None:
    assert store.list("d") == []
    for rel in ("d/b", "d/a/x", f"d/{ODD_NAME}", "other"):
        store.put(rel, b"1")
    assert store.list("d") == sorted(["d/b", "d/a/x", f"d/{ODD_NAME}"])
    assert store.list("") == sorted(["d/b", "d/a/x", f"d/{ODD_NAME}", "other"])
    store.delete("d/b")
    assert store.list("d") == sorted(["d/a/x", f"d/{ODD_NAME}"])


def test_odd_names_survive_as_they_are(store: Store, tmp_path: Path) -> None:
    store.put(f"videos/{ODD_NAME}", b"1")
    assert store.read(f"videos/{ODD_NAME}") == b"1"
    assert store.uri(f"videos/{ODD_NAME}").endswith(f"/videos/{ODD_NAME}")
    store.get_file(f"videos/{ODD_NAME}", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"1"


@pytest.mark.parametrize("rel", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/", "a\0b"])
def test_a_path_that_could_leave_the_root_is_refused(store: Store, rel: str) -> None:
    with pytest.raises(SpecError, match="no path below the output folder"):
        store.put(rel, b"1")
    with pytest.raises(SpecError):
        store.uri(rel)


def test_create_refuses_a_second_time_and_keeps_the_first(store: Store) -> None:
    assert store.put_new("k/row.json", b"first")
    assert not store.put_new("k/row.json", b"second")
    assert not store.put_new("k/row.json", b"first"), "equal bytes of another writer are not ours"
    assert store.read("k/row.json") == b"first"
    store.delete("k/row.json")
    assert store.put_new("k/row.json", b"third")


def test_a_version_changes_with_every_write_and_with_nothing_else(store: Store) -> None:
    assert store.stat("a") is None
    store.put("a", b"1")
    first = store.stat("a")
    assert first == store.stat("a")
    assert first is not None
    assert first.size == 1
    store.put("b", b"1")
    assert store.stat("a") == first
    store.put("a", b"2")
    second = store.stat("a")
    assert second is not None
    assert second.version != first.version
    assert second.modified >= first.modified


def test_a_replacement_happens_only_if_nobody_wrote_since(store: Store, tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"new")
    assert store.replace_file("a", tmp_path / "new", None)
    assert not store.replace_file("a", tmp_path / "new", None)
    seen = store.stat("a")
    store.put("a", b"of another writer")
    assert not store.replace_file("a", tmp_path / "new", seen)
    assert store.read("a") == b"of another writer"
    assert store.replace_file("a", tmp_path / "new", store.stat("a"))
    assert store.read("a") == b"new"
    seen = store.stat("a")
    store.delete("a")
    assert not store.replace_file("a", tmp_path / "new", seen)
    assert not store.exists("a")


def test_of_eight_racing_replacements_of_one_version_exactly_one_wins(store: Store, tmp_path: Path) -> None:
    store.put("a", b"old")
    seen, barrier = store.stat("a"), threading.Barrier(8)

    def race(i: int) -> bool:
        path = tmp_path / str(i)
        path.write_bytes(b"writer %d" % i)
        barrier.wait()
        return store.replace_file("a", path, seen)

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(race, range(8)))
    assert sum(won) == 1
    assert store.read("a") == b"writer %d" % won.index(True)


def test_nothing_unfinished_means_nothing_discarded(store: Store) -> None:
    store.put("videos/a", b"1")
    assert store.discard_unfinished() == 0
    assert store.list("") == ["videos/a"]


def test_of_eight_racing_threads_exactly_one_creates(store: Store) -> None:
    for turn in range(5):
        barrier = threading.Barrier(8)

        def race(i: int, barrier: threading.Barrier = barrier, rel: str = f"race/{turn}") -> bool:
            barrier.wait()
            return store.put_new(rel, f"writer {i}".encode())

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(race, range(8)))
        assert sum(won) == 1
        assert store.read(f"race/{turn}") == f"writer {won.index(True)}".encode()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_of_eight_racing_processes_exactly_one_creates(store: Store, method: str) -> None:
    if store.root.startswith("memory"):
        pytest.skip("memory is not shared by processes")
    store.put("warm", b"the parent's connection must not follow into the children")
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(8 if method == "fork" else 2, mp_context=context) as pool:
        jobs = [pool.submit(_create, store, "race/row", f"writer {i}".encode()) for i in range(8)]
        won = [job.result(timeout=60) for job in jobs]
    assert sum(won) == 1
    assert store.read("race/row") == f"writer {won.index(True)}".encode()


def test_readers_during_replacement_see_old_or_new(store: Store) -> None:
    versions = {bytes([i]) * 300_000 for i in range(6)}
    store.put("a", next(iter(versions)))
    stop = threading.Event()

    def read() -> bool:
        whole = True
        while not stop.is_set():
            whole &= store.read("a") in versions
        return whole

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for data in sorted(versions) * 3:
            store.put("a", data)
        stop.set()
        assert all(reader.result() for reader in readers)


def test_a_store_pickles_to_its_arguments(store: Store) -> None:
    store.put("a", b"1")
    copy = pickle.loads(pickle.dumps(store))
    assert copy.read("a") == b"1"
    assert copy.uri("a") == store.uri("a")
    assert len(pickle.dumps(store)) < 1000


def test_a_usable_root_passes_the_check_and_stays_empty(store: Store) -> None:
    if store.root.startswith("memory"):
        with pytest.raises(SpecError, match="lives in the memory of one process"):
            store.check()
        return
    store.check(write=False)
    store.check()
    assert store.list("") == []


def test_a_name_the_disk_refuses_is_a_store_error_with_the_uri(tmp_path: Path) -> None:
    store, rel = Store(str(tmp_path)), "x" * 5000
    with pytest.raises(StoreError) as caught:
        store.put(rel, b"1")
    assert caught.value.facts["uri"] == store.uri(rel)


def test_a_whole_bucket_can_be_the_root(s3: S3Bucket) -> None:
    store = Store(f"{s3.url}/", s3.storage)
    store.check()
    store.put("a/b", b"1")
    assert store.list("") == store.list("a") == ["a/b"]
    assert store.uri("a/b") == f"{s3.url}/a/b"


def _write_and_die(root: str, source: str) -> None:
    real = os.fsync

    def die(descriptor: int) -> None:
        real(descriptor)
        os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = die
    Store(root).put_file("videos/a.mp4", source)


def test_a_killed_local_writer_leaves_its_part_among_the_work_files_only(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"video")
    store = Store(str(tmp_path / "root"))
    store.put("videos/a.mp4", b"old")
    writer = multiprocessing.get_context("fork").Process(
        target=_write_and_die, args=(store.root, str(tmp_path / "source"))
    )
    writer.start()
    writer.join(30)
    assert writer.exitcode == -signal.SIGKILL
    assert store.read("videos/a.mp4") == b"old"
    assert os.listdir(tmp_path / "root" / "videos") == ["a.mp4"]
    (left,) = store.list(".work")
    assert store.read(left) == b"video"
    assert store.discard_unfinished() == 1
    assert store.list(".work") == []


def test_a_listing_hides_writes_in_progress(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.put("a/b", b"1")
    (tmp_path / "a" / f"{TEMPORARY_PREFIX}0123").write_bytes(b"par")
    assert store.list("") == ["a/b"]


def test_a_failing_local_write_keeps_the_old_object_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path / "root"))
    store.put("a", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (store.put, store.put_new):
        with pytest.raises(StoreError, match="No space left"):
            write("a", b"new")
    monkeypatch.undo()
    assert store.read("a") == b"old"
    assert store.list("") == ["a"]
