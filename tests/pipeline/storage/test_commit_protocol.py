"""The chunk protocol against a dict: whatever dies or rots, a receipt stands for whole, right bytes."""

from __future__ import annotations

import hashlib
import itertools
import pickle
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pipeline.commit import ChunkStore, Receipt
from pipeline.errors import StoreError
from pipeline.keys import object_path
from pipeline.store import Store
from tests.support.mortal_store import MortalStore, ProcessDiedError

KEY = hashlib.sha256(b"a chunk").hexdigest()
FACTS = {"frames": 12, "md5": ["a", "b"]}


def _file(folder: Path, data: bytes) -> Path:
    path = folder / "local"
    path.write_bytes(data)
    return path


def test_a_commit_is_found_and_reads_back(store: Store, tmp_path: Path) -> None:
    chunks = ChunkStore(store)
    assert chunks.lookup(KEY) is None
    receipt = chunks.commit(KEY, ".mkv", _file(tmp_path, b"segment"), FACTS)
    assert chunks.lookup(KEY) == receipt
    assert receipt == Receipt(KEY, receipt.object, 7, hashlib.sha256(b"segment").hexdigest(), FACTS)
    assert receipt.object.startswith(f".work/{KEY[:2]}/{KEY}.")
    assert receipt.object.endswith(".mkv")
    assert chunks.read(receipt) == b"segment"
    chunks.fetch(receipt, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"segment"


def test_second_attempt_of_a_finished_chunk_writes_nothing(store: Store) -> None:
    first = ChunkStore(store).commit_bytes(KEY, ".npz", b"first", FACTS)
    second = ChunkStore(MortalStore(store, changes=0)).commit_bytes(KEY, ".npz", b"other", {})
    assert second == first
    assert ChunkStore(store).read(second) == b"first"


def test_a_commit_that_dies_after_any_step_shows_nothing_or_all(store: Store) -> None:
    for changes in itertools.count():
        key = hashlib.sha256(bytes([changes])).hexdigest()
        try:
            ChunkStore(MortalStore(store, changes)).commit_bytes(key, ".npz", b"data", FACTS)
        except ProcessDiedError:
            assert ChunkStore(store).lookup(key) is None
            assert (
                ChunkStore(store).read(ChunkStore(store).commit_bytes(key, ".npz", b"data", FACTS)) == b"data"
            )
        else:
            assert changes == 2
            break


def test_racing_attempts_with_different_bytes_agree_on_one_receipt(store: Store) -> None:
    barrier = threading.Barrier(6)

    def attempt(i: int) -> Receipt:
        barrier.wait()
        return ChunkStore(store).commit_bytes(KEY, ".npz", f"bytes of attempt {i}".encode(), {"attempt": i})

    with ThreadPoolExecutor(6) as pool:
        receipts = list(pool.map(attempt, range(6)))
    assert all(receipt == receipts[0] for receipt in receipts)
    assert ChunkStore(store).read(receipts[0]).decode() == f"bytes of attempt {receipts[0].facts['attempt']}"
    assert len(store.list(".work")) == 2, "the losers removed their own objects"


def test_rotten_bytes_are_reported_and_then_recomputed(store: Store, tmp_path: Path) -> None:
    chunks = ChunkStore(store)
    receipt = chunks.commit_bytes(KEY, ".npz", b"right", FACTS)
    store.put(receipt.object, b"wrong")
    assert chunks.lookup(KEY) == receipt, "the size still agrees"
    with pytest.raises(StoreError, match="run the job again, which recomputes it"):
        chunks.fetch(receipt, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert chunks.lookup(KEY) is None
    assert chunks.read(chunks.commit_bytes(KEY, ".npz", b"right", FACTS)) == b"right"


@pytest.mark.parametrize("receipt", [b"", b"{", b"[]", b'{"key": "x"}', b"\xff\xfe", b"null"])
def test_an_unreadable_receipt_counts_as_absent_and_is_replaced(store: Store, receipt: bytes) -> None:
    chunks = ChunkStore(store)
    store.put(object_path(KEY, ".json"), receipt)
    assert chunks.lookup(KEY) is None
    assert chunks.lookup(chunks.commit_bytes(KEY, ".npz", b"data", FACTS).key) is not None


def test_a_receipt_that_points_elsewhere_is_not_followed(store: Store) -> None:
    other = ChunkStore(store).commit_bytes(KEY, ".npz", b"data", FACTS)
    stranger = hashlib.sha256(b"another").hexdigest()
    store.put(object_path(stranger, ".json"), store.read(object_path(other.key, ".json")))
    assert ChunkStore(store).lookup(stranger) is None


def test_facts_that_are_no_json_are_refused_before_anything_is_written(store: Store) -> None:
    with pytest.raises(ValueError, match=r"\$\.psnr"):
        ChunkStore(store).commit_bytes(KEY, ".npz", b"data", {"psnr": float("inf")})
    assert store.list("") == []


def test_a_chunk_store_pickles(store: Store) -> None:
    receipt = ChunkStore(store).commit_bytes(KEY, ".npz", b"data", FACTS)
    assert pickle.loads(pickle.dumps(ChunkStore(store))).lookup(KEY) == receipt


class CommitMachine(RuleBasedStateMachine):
    """``model`` maps each key to its committed bytes, ``lost`` to those that a receipt names but that are
    gone; everything else may happen in between."""

    keys = st.sampled_from([hashlib.sha256(bytes([i])).hexdigest() for i in range(3)])
    data = st.binary(max_size=4)

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(self.folder.name)
        self.chunks = ChunkStore(self.store)
        self.model: dict[str, bytes] = {}
        self.lost: dict[str, bytes] = {}

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule(key=keys, data=data)
    def commit(self, key: str, data: bytes) -> None:
        receipt = self.chunks.commit_bytes(key, ".bin", data, {})
        self.model.setdefault(key, data)
        self.lost.pop(key, None)
        assert self.chunks.read(receipt) == self.model[key]

    @rule(key=keys, data=data, changes=st.integers(0, 1))
    def die(self, key: str, data: bytes, changes: int) -> None:
        try:
            ChunkStore(MortalStore(self.store, changes)).commit_bytes(key, ".bin", data, {})
        except ProcessDiedError:
            assert key not in self.model
            if changes and self.lost.get(key) == data:
                # The bytes were written before the process died: the receipt that named them holds again.
                self.model[key] = self.lost.pop(key)
        else:
            assert key in self.model

    @rule(key=keys)
    def lose_object(self, key: str) -> None:
        receipt = self.chunks.lookup(key)
        if receipt is not None:
            self.store.delete(receipt.object)
            self.lost[key] = self.model.pop(key)

    @rule(key=keys)
    def truncate_object(self, key: str) -> None:
        receipt = self.chunks.lookup(key)
        if receipt is not None and receipt.size:
            self.store.put(receipt.object, b"")
            self.lost[key] = self.model.pop(key)

    @rule(key=keys)
    def rot(self, key: str) -> None:
        receipt = self.chunks.lookup(key)
        if receipt is not None and receipt.size:
            self.lost[key] = self.model.pop(key)
            self.store.put(receipt.object, bytes(255 - b for b in self.lost[key]))
            with pytest.raises(StoreError):
                self.chunks.read(receipt)

    @invariant()
    def receipts_are_the_model(self) -> None:
        for key in (hashlib.sha256(bytes([i])).hexdigest() for i in range(3)):
            receipt = self.chunks.lookup(key)
            assert (receipt is not None) == (key in self.model)
            if receipt is not None:
                assert self.store.read(receipt.object) == self.model[key]


CommitMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=15)
TestCommitAgainstADict = CommitMachine.TestCase
