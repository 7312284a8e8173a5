"""Publishing a video and its manifest row."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.commit import publish_video
from pipeline.errors import StoreError
from pipeline.journal import CHUNKS, merge_rows
from pipeline.keys import canonical_json
from pipeline.manifest import (
    CHUNKS_PARQUET,
    VIDEOS_PARQUET,
    ChunkRow,
    VideoRow,
    compact,
    find_row,
    read_chunk_rows,
    read_video_rows,
    row_path,
    write_quarantined,
)
from pipeline.store import Store
from tests.support.mortal_store import MortalStore, ProcessDiedError

URI = "s3://in/a film/-dash ünï ☃ 'q' %20.mp4"
OUTPUT = "videos/a film/-dash ünï ☃ 'q' %20.mp4"
ROW = VideoRow(
    URI,
    "k" * 64,
    "done",
    frames=24,
    seed=7,
    versions={"av": "18.1"},
    warnings=("mixed range",),
    metrics={"psnr": 31.5},
)
REFUSED = VideoRow(URI, "k" * 64, "quarantined", code="no_video_stream", error="has no picture")


def _publish(store: Store, folder: Path, data: bytes, row: VideoRow = ROW) -> VideoRow:
    local = folder / f"local-{threading.get_ident()}"
    local.write_bytes(data)
    return publish_video(store, local, OUTPUT, row)


def _told_truth(store: Store) -> bool:
    """Every done row describes the bytes that lie there."""
    return all(
        store.sha256(r.output_rel) == r.output_sha256 for r in read_video_rows(store) if r.status == "done"
    )


def test_a_published_video_has_its_bytes_and_a_row_that_describes_them(store: Store, tmp_path: Path) -> None:
    row = _publish(store, tmp_path, b"video")
    assert store.read(OUTPUT) == b"video"
    assert row == replace(
        ROW,
        output_rel=OUTPUT,
        output_uri=store.uri(OUTPUT),
        output_sha256=hashlib.sha256(b"video").hexdigest(),
    )
    assert read_video_rows(store) == [row]
    assert find_row(store, URI, ROW.video_key) == row
    assert find_row(store, URI, "other") is None
    folder = hashlib.sha256(URI.encode()).hexdigest()[:16]
    assert store.exists(f"manifests/videos/{folder}/{ROW.video_key}.{0:010d}.json")


def test_publishing_again_writes_nothing(store: Store, tmp_path: Path) -> None:
    first = _publish(store, tmp_path, b"video")
    assert _publish(MortalStore(store, 0), tmp_path, b"video") == first


def test_a_lost_output_is_published_again(store: Store, tmp_path: Path) -> None:
    first = _publish(store, tmp_path, b"video")
    store.delete(OUTPUT)
    assert _publish(store, tmp_path, b"video") == first
    assert store.read(OUTPUT) == b"video"


def test_a_file_that_changed_after_verification_is_not_published(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="changed between verification and upload"):
        _publish(store, tmp_path, b"video", replace(ROW, output_sha256="0" * 64))
    assert store.list("") == []


def test_a_new_version_that_dies_after_any_step_never_leaves_a_lying_row(
    store: Store, tmp_path: Path
) -> None:
    for changes in itertools.count():
        key = f"{changes:064d}"
        try:
            _publish(
                MortalStore(store, changes), tmp_path, b"version %d" % changes, replace(ROW, video_key=key)
            )
        except ProcessDiedError:
            assert _told_truth(store)
            assert (
                _publish(store, tmp_path, b"again %d" % changes, replace(ROW, video_key=key)).video_key == key
            )
        else:
            assert changes == 4, "withdraw the old row, replace the file, create the row, note its proof"
            break
        assert _told_truth(store)
        assert [row.video_key for row in read_video_rows(store)] == [key]


def _publish_with_credentials(store: Store, folder: Path, number: int) -> VideoRow:
    """Version ``number`` of a video, with a sidecar that says so; those of odd numbers have none."""
    local, beside = folder / "local", folder / "beside"
    local.write_bytes(b"version %d" % number)
    beside.write_bytes(b"of version %d" % number)
    told = {} if number % 2 else {"provenance": {"credentials": "sidecar"}}
    row = replace(ROW, video_key=f"{number:064d}", metrics=told)
    return publish_video(store, local, OUTPUT, row, sidecar=None if number % 2 else beside)


def test_credentials_beside_a_video_are_those_of_its_bytes_after_a_death_at_any_step(
    store: Store, tmp_path: Path
) -> None:
    sidecar = OUTPUT.replace(".mp4", ".c2pa")
    for number in range(9):
        with contextlib.suppress(ProcessDiedError):
            _publish_with_credentials(MortalStore(store, number), tmp_path, number)
        assert _told_truth(store)
        for row in read_video_rows(store):
            version = store.read(OUTPUT)
            assert store.find(sidecar) == (b"of " + version if row.metrics else None)
    assert store.find(sidecar) == b"of version 8"
    assert _publish_with_credentials(MortalStore(store, 0), tmp_path, 8) == read_video_rows(store)[0]
    _publish_with_credentials(store, tmp_path, 9)
    assert not store.exists(sidecar)


def test_racing_attempts_of_one_key_end_in_one_row_that_tells_the_truth(store: Store, tmp_path: Path) -> None:
    barrier = threading.Barrier(5)

    def attempt(i: int) -> VideoRow:
        barrier.wait()
        return _publish(store, tmp_path, b"the same bytes")

    with ThreadPoolExecutor(5) as pool:
        rows = list(pool.map(attempt, range(5)))
    assert all(row == rows[0] for row in rows)
    assert read_video_rows(store) == [rows[0]]
    assert _told_truth(store)


def test_an_attempt_that_overwrote_the_winner_corrects_the_row(store: Store, tmp_path: Path) -> None:
    class Overtaken(Store):
        """Another attempt commits between our upload and our row."""

        def put_new(self, rel: str, data: bytes) -> bool:
            rival = replace(ROW, output_rel=OUTPUT, output_sha256=hashlib.sha256(b"rival").hexdigest())
            store.put_new(row_path(URI, ROW.video_key, "done"), canonical_json(rival))
            return super().put_new(rel, data)

    row = _publish(Overtaken(store.root, store.storage), tmp_path, b"ours")
    assert row.output_sha256 == hashlib.sha256(b"ours").hexdigest()
    assert read_video_rows(store) == [row]
    assert _told_truth(store)


def test_a_quarantined_video_can_be_refused_anew_and_then_succeed(store: Store, tmp_path: Path) -> None:
    write_quarantined(store, REFUSED)
    write_quarantined(store, replace(REFUSED, code="missing"))
    assert [row.code for row in read_video_rows(store)] == ["missing"]
    assert find_row(store, URI, ROW.video_key) == replace(REFUSED, code="missing")
    done = _publish(store, tmp_path, b"video")
    assert read_video_rows(store) == [done]


def test_a_late_refusal_does_not_undo_a_published_video(store: Store, tmp_path: Path) -> None:
    done = _publish(store, tmp_path, b"video")
    write_quarantined(store, REFUSED)
    assert read_video_rows(store) == [done]


def test_a_refusal_under_another_spec_replaces_the_older_row(store: Store, tmp_path: Path) -> None:
    _publish(store, tmp_path, b"video")
    refused = replace(REFUSED, video_key="n" * 64)
    write_quarantined(store, refused)
    assert read_video_rows(store) == [refused]


def test_an_unreadable_row_is_named(store: Store) -> None:
    store.put(row_path(URI, "k", "done"), b'{"status": "done"}')
    with pytest.raises(StoreError, match="not a manifest row") as caught:
        read_video_rows(store)
    assert caught.value.facts["uri"].endswith("/k.0000000000.json")


def test_the_parquet_manifest_has_a_fixed_schema_even_when_empty(store: Store, tmp_path: Path) -> None:
    compact(store)
    empty = pq.read_table(io.BytesIO(store.read(VIDEOS_PARQUET)))
    done = _publish(store, tmp_path, b"video")
    write_quarantined(store, replace(REFUSED, video_uri="s3://in/b.mp4"))
    compact(store)
    table = pq.read_table(io.BytesIO(store.read(VIDEOS_PARQUET)))
    assert table.schema == empty.schema
    records = table.to_pylist()
    assert [(r["video_uri"], r["status"]) for r in records] == [
        (URI, "done"),
        ("s3://in/b.mp4", "quarantined"),
    ]
    assert records[0]["output_sha256"] == done.output_sha256
    assert records[0]["warnings"] == ["mixed range"]
    assert records[0]["metrics"] == '{"psnr":31.5}'
    assert (records[0]["frames"], records[0]["seed"]) == (24, 7)
    before = store.read(VIDEOS_PARQUET)
    compact(store)
    assert store.read(VIDEOS_PARQUET) == before


def _chunk(i: int, seconds: float = 1.0) -> ChunkRow:
    return ChunkRow(
        f"key{i}", URI, "chunk", 0, i, 8 * i, 8 * i + 8, 8, seconds, 1, "node-1", {"psnr": 30.0 + i}
    )


def test_chunk_rows_merge_by_key(store: Store) -> None:
    assert read_chunk_rows(store) == []
    merge_rows(store, CHUNKS, [_chunk(1), _chunk(0)])
    merge_rows(store, CHUNKS, [_chunk(1, seconds=2.5), _chunk(2)])
    assert read_chunk_rows(store) == [_chunk(0), _chunk(1, seconds=2.5), _chunk(2)]
    assert Counter(pq.read_table(io.BytesIO(store.read(CHUNKS_PARQUET))).column("level").to_pylist()) == {
        "chunk": 3
    }


def test_a_torn_chunk_manifest_is_named_with_the_remedy(store: Store) -> None:
    store.put(CHUNKS_PARQUET, b"PAR1 not really")
    with pytest.raises(StoreError, match=r"chunks\.parquet: not a manifest .* delete it"):
        merge_rows(store, CHUNKS, [_chunk(0)])


def test_a_file_name_that_is_not_utf8_still_gets_a_row(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "root"))
    name = b"/in/\xff.mp4".decode("utf-8", "surrogateescape")
    write_quarantined(store, replace(REFUSED, video_uri=name))
    assert read_video_rows(store)[0].video_uri == name
    compact(store)
    assert pq.read_table(io.BytesIO(store.read(VIDEOS_PARQUET))).column("video_uri").to_pylist() == [
        r"/in/\xff.mp4"
    ]
