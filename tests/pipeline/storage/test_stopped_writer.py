"""A whole small job whose writer is stopped after every line of the protocol, for every line."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.commit import ChunkStore, publish_video
from pipeline.errors import StoreError
from pipeline.journal import CHUNKS, Journal
from pipeline.keys import digest
from pipeline.lease import Fence, LeaseLostError, LeaseTimes, hold_lease
from pipeline.manifest import (
    CHUNKS_PARQUET,
    VIDEOS_PARQUET,
    ChunkRow,
    VideoRow,
    compact,
    read_chunk_rows,
    read_video_rows,
    write_quarantined,
)
from pipeline.objects import ObjectInfo
from pipeline.store import Store
from tests.support.mortal_store import MortalStore, ProcessDiedError, UnansweredStore

# A lease is given back by a thread of its own, which may be the one to die.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

AT_ONCE = LeaseTimes(renew=60.0, expiry=0.0, wait=20.0, poll=0.01)
"""The holder before is dead by construction and need not be waited for."""

VIDEOS = ("/in/a.mp4", "/in/b ü.mp4")
REFUSED = "/in/bad.mp4"


def _chunk(uri: str, number: int) -> bytes:
    return f"segment {number} of {uri};".encode() * 50


def _job(store: Store, run_id: str) -> None:
    """What a run does to storage: segments, then the video, then its row; one bad source."""
    with tempfile.TemporaryDirectory() as folder, hold_lease(store, run_id, AT_ONCE) as lease:
        store.discard_unfinished()
        chunks, journal = ChunkStore(store), Journal(store, CHUNKS, run_id, every=0.0)
        write_quarantined(
            store,
            VideoRow(REFUSED, digest(REFUSED), "quarantined", code="no_video_stream", stage="index"),
            lease.fence,
        )
        for uri in VIDEOS:
            whole = b""
            for number in range(2):
                key = digest([uri, number])
                receipt = chunks.commit_bytes(key, ".mkv", _chunk(uri, number), {"number": number})
                whole += chunks.read(receipt)
                row = ChunkRow(key, uri, "chunk", 0, number, 8 * number, 8 * number + 8, 8, 0.5, 1, "node")
                journal.note(row)
            local = Path(folder) / "video"
            local.write_bytes(whole)
            row = VideoRow(uri, digest(uri), "done", frames=16, metrics={"bytes": len(whole)})
            publish_video(store, local, f"videos/{Path(uri).stem}.mp4", row, lease.fence)
        journal.close()
        compact(store)


def _outcome(store: Store) -> dict[str, Any]:
    """All that readers see, but for the tokens, which count the runs."""
    tables = {}
    for name in (VIDEOS_PARQUET, CHUNKS_PARQUET):
        records = pq.read_table(io.BytesIO(store.read(name))).to_pylist()
        tables[name] = [
            {k: v for k, v in record.items() if k not in ("token", "output_uri")} for record in records
        ]
    return {
        "videos": {path: store.read(path) for path in store.list("videos")},
        "rows": [dataclasses.replace(row, token=0, output_uri="") for row in read_video_rows(store)],
        "chunks": sorted(row.key for row in read_chunk_rows(store)),
        **tables,
    }


def _told_truth(store: Store) -> bool:
    """Every done row describes the bytes that lie there."""
    return all(
        store.sha256(row.output_rel) == row.output_sha256
        for row in read_video_rows(store)
        if row.status == "done"
    )


def _roots(kind: str, folder: Path) -> Iterator[Store]:
    for number in itertools.count():
        yield Store(f"memory://{uuid.uuid4().hex}" if kind == "memory" else str(folder / str(number)))


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_a_writer_that_dies_before_any_change_leaves_nothing_that_a_rerun_does_not_mend(
    kind: str, tmp_path: Path
) -> None:
    roots = _roots(kind, tmp_path)
    calm = next(roots)
    _job(calm, "calm")
    for changes in itertools.count():
        store = next(roots)
        try:
            _job(MortalStore(store, changes), "dies")
        except ProcessDiedError:
            assert _told_truth(store)
            _job(store, "again")
            assert _outcome(store) == _outcome(calm), f"after {changes} changes"
        else:
            assert changes > 20, "the job made hardly any change"
            return


def test_a_writer_that_dies_again_and_again_still_gets_there() -> None:
    calm, store = Store(f"memory://{uuid.uuid4().hex}"), Store(f"memory://{uuid.uuid4().hex}")
    _job(calm, "calm")
    # The lease and the refused source take about seven changes; what is left over is progress.
    for run in itertools.count():
        try:
            _job(MortalStore(store, 16), f"run-{run:03d}")
        except ProcessDiedError:
            assert run < 30, "no progress"
            assert _told_truth(store)
        else:
            break
    assert _outcome(store) == _outcome(calm)


def test_a_write_whose_answer_is_lost_is_read_back_or_repeated_by_a_rerun() -> None:
    roots = _roots("memory", Path())
    calm = next(roots)
    _job(calm, "calm")
    healed = 0
    for changes in itertools.count():
        store = next(roots)
        unanswered = UnansweredStore(store, changes)
        try:
            _job(unanswered, "unanswered")
        except StoreError:
            assert _told_truth(store)
            _job(store, "again")
        else:
            healed += 1
        assert _outcome(store) == _outcome(calm), f"after {changes} changes"
        if unanswered.left >= 0:
            break
    assert healed > len(VIDEOS), "publication reads back what it has no answer for"


ROW = VideoRow("/in/a.mp4", "k" * 64, "done", frames=24)
OUTPUT = "videos/a.mp4"


def _publish(store: Store, folder: Path, data: bytes, key: str, token: int) -> VideoRow:
    local = folder / f"local-{token}"
    local.write_bytes(data)
    return publish_video(store, local, OUTPUT, dataclasses.replace(ROW, video_key=key), Fence(token))


class OvertakenStore(Store):
    """Between two steps of its user another run takes the lease over and publishes its own version."""

    def __init__(self, store: Store, folder: Path, step: str) -> None:
        super().__init__(store.root, store.storage)
        self._plain = store
        self._folder = folder
        self._step = step
        self._done = False

    def overtake(self, step: str) -> None:
        if step == self._step and not self._done:
            self._done = True
            assert self._plain.put_new("manifests/leases/0000000008.json", b"{}")
            _publish(self._plain, self._folder, b"later", "l" * 64, 8)

    def stat(self, rel: str) -> ObjectInfo | None:
        if rel == OUTPUT:
            self.overtake("before looking")
        found = super().stat(rel)
        if rel == OUTPUT:
            self.overtake("after looking")
        return found

    def exists(self, rel: str) -> bool:
        there = super().exists(rel)
        if rel.startswith("manifests/leases"):
            self.overtake("after the check")
        return there

    def delete(self, rel: str) -> None:
        self.overtake("before withdrawing")
        super().delete(rel)

    def replace_file(self, rel: str, local_path: Any, seen: ObjectInfo | None) -> bool:
        self.overtake("before upload")
        done = super().replace_file(rel, local_path, seen)
        self.overtake("after upload")
        return done

    def put_new(self, rel: str, data: bytes) -> bool:
        self.overtake("before the row")
        return super().put_new(rel, data)


@pytest.mark.parametrize(
    "step",
    [
        "before looking",
        "after looking",
        "after the check",
        "before withdrawing",
        "before upload",
        "after upload",
        "before the row",
    ],
)
def test_a_run_that_is_overtaken_at_any_line_harms_nothing_of_the_later_one(
    store: Store, tmp_path: Path, step: str
) -> None:
    _publish(store, tmp_path, b"first", "f" * 64, 6)
    store.put("manifests/leases/0000000007.json", b"{}")
    zombie = OvertakenStore(store, tmp_path, step)
    try:
        _publish(zombie, tmp_path, b"of the zombie", "z" * 64, 7)
    except LeaseLostError:
        assert step != "before the row"
    assert zombie._done, "the other run never came"
    (row,) = read_video_rows(store)
    assert (row.video_key, row.token) == ("l" * 64, 8)
    assert store.read(OUTPUT) == b"later"
    assert row.output_sha256 == hashlib.sha256(b"later").hexdigest()


def test_a_late_refusal_of_an_overtaken_run_is_not_recorded(store: Store, tmp_path: Path) -> None:
    _publish(store, tmp_path, b"later", "l" * 64, 8)
    store.put("manifests/leases/0000000008.json", b"{}")
    refused = VideoRow(ROW.video_uri, "z" * 64, "quarantined", code="missing")
    with pytest.raises(LeaseLostError):
        write_quarantined(store, refused, Fence(7))
    assert [row.status for row in read_video_rows(store)] == ["done"]


def test_tokens_go_on_where_the_leases_were_removed(store: Store, tmp_path: Path) -> None:
    _publish(store, tmp_path, b"old", "o" * 64, 41)
    with hold_lease(store, "run") as lease:
        assert lease.fence.token == 42
        _publish(store, tmp_path, b"new", "n" * 64, lease.fence.token)
    assert [row.video_key for row in read_video_rows(store)] == ["n" * 64]


def test_a_file_that_lost_bytes_after_publication_is_published_again(store: Store, tmp_path: Path) -> None:
    local = tmp_path / "local"
    local.write_bytes(b"whole video")
    row = dataclasses.replace(ROW, metrics={"bytes": 11})
    publish_video(store, local, OUTPUT, row, Fence(1))
    store.put(OUTPUT, b"whole")
    publish_video(store, local, OUTPUT, row, Fence(2))
    assert store.read(OUTPUT) == b"whole video"
    assert [row.token for row in read_video_rows(store)] == [2]
