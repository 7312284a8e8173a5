"""Manifests as tables: documented columns, appended rows, readers beside a writer."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.journal import CHUNKS, Journal, merge_rows
from pipeline.manifest import (
    CHUNKS_PARQUET,
    VIDEOS_PARQUET,
    ChunkRow,
    VideoRow,
    VideosTable,
    compact,
    create_done_row,
    find_row,
    read_chunk_rows,
    read_video_rows,
    row_path,
    write_quarantined,
)
from pipeline.manifest_schema import TABLES, arrow_schema, columns, schema_text
from pipeline.store import Store
from tests.support.mortal_store import MortalStore, ProcessDiedError

ROOT = Path(__file__).resolve().parents[3]
URI = "/in/a.mp4"


def _chunk(number: int, seconds: float = 1.0) -> ChunkRow:
    return ChunkRow(f"key{number}", URI, "chunk", 0, number, number, number + 1, 1, seconds, 1, "node")


def _parquet(store: Store, path: str) -> pa.Table:
    return pq.read_table(io.BytesIO(store.read(path)))


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_column_has_a_meaning_that_readers_of_the_file_see(name: str) -> None:
    cls = TABLES[name]
    assert [column.name for column in columns(cls)] == [field.name for field in dataclasses.fields(cls)]
    for column, stored in zip(columns(cls), arrow_schema(cls), strict=True):
        assert len(column.meaning) > 10
        assert stored.metadata == {b"meaning": column.meaning.encode()}


def test_the_document_says_what_the_code_says() -> None:
    assert (ROOT / "infra" / "manifests.md").read_text() == schema_text()


def test_the_written_file_carries_schema_and_meanings(store: Store) -> None:
    create_done_row(store, VideoRow(URI, "k" * 64, "done", warnings=("odd",), metrics={"bytes": 3}))
    compact(store)
    found = _parquet(store, VIDEOS_PARQUET).schema
    assert found.equals(arrow_schema(VideoRow), check_metadata=False)
    assert found.field("code").metadata[b"meaning"].startswith(b"stable word")


def test_a_quarantine_row_tells_stage_code_message_attempts_and_node(store: Store) -> None:
    refused = VideoRow(
        URI,
        "k" * 64,
        "quarantined",
        code="crashed",
        error="too large",
        stage="enhance",
        attempts=3,
        node="n7",
    )
    write_quarantined(store, refused)
    compact(store)
    (record,) = _parquet(store, VIDEOS_PARQUET).to_pylist()
    told = {name: record[name] for name in ("status", "stage", "code", "error", "attempts", "node")}
    assert told == {
        "status": "quarantined",
        "stage": "enhance",
        "code": "crashed",
        "error": "too large",
        "attempts": 3,
        "node": "n7",
    }


def test_rows_of_an_earlier_version_are_still_read(store: Store) -> None:
    store.put(
        row_path(URI, "k" * 64, "done").replace(".0000000000", ""),
        json.dumps({"video_uri": URI, "video_key": "k" * 64, "status": "done", "frames": 5}).encode(),
    )
    (row,) = read_video_rows(store)
    assert (row.frames, row.token, row.stage) == (5, 0, "")
    assert find_row(store, URI, "k" * 64) == row


def test_the_row_of_the_highest_token_stands_and_done_before_quarantined(store: Store) -> None:
    for token, key, status in ((2, "b", "done"), (10, "a", "quarantined"), (9, "c", "done")):
        row = VideoRow(URI, key, status, token=token)  # type: ignore[arg-type]
        store.put(row_path(URI, key, status, token), json.dumps(dataclasses.asdict(row)).encode())
    assert [(row.video_key, row.token) for row in read_video_rows(store)] == [("a", 10)]
    assert find_row(store, URI, "c") is None, "what does not stand is not found"
    row = VideoRow(URI, "d", "done", token=10)
    store.put(row_path(URI, "d", "done", 10), json.dumps(dataclasses.asdict(row)).encode())
    assert [row.video_key for row in read_video_rows(store)] == ["d"]


def test_the_table_of_videos_can_be_read_while_the_run_goes_on(store: Store) -> None:
    before = VideoRow("/in/before.mp4", "k", "done")
    create_done_row(store, before)
    table, seen = VideosTable(store, every=0.0), []
    for number in range(3):
        row = VideoRow(f"/in/{number}.mp4", "k", "done", frames=number)
        create_done_row(store, row)
        table.note(row)
        seen.append(_parquet(store, VIDEOS_PARQUET).column("video_uri").to_pylist())
    assert [len(uris) for uris in seen] == [2, 3, 4]
    assert seen[-1] == ["/in/0.mp4", "/in/1.mp4", "/in/2.mp4", "/in/before.mp4"]
    during = store.read(VIDEOS_PARQUET)
    compact(store)
    assert store.read(VIDEOS_PARQUET) == during, "at the end it says the same"


def test_the_table_of_videos_is_not_written_for_every_video(store: Store) -> None:
    VideosTable(store, every=3600.0).note(VideoRow("/in/a.mp4", "k", "done"))
    assert store.list("") == []


def test_appended_chunk_rows_are_read_before_and_after_they_are_merged(store: Store) -> None:
    journal = Journal(store, CHUNKS, "run", every=0.0)
    journal.note(_chunk(1), _chunk(0))
    assert {row.key for row in read_chunk_rows(store)} == {"key0", "key1"}
    assert not store.exists(CHUNKS_PARQUET)
    journal.note(_chunk(2), _chunk(1, seconds=9.0))
    journal.close()
    assert read_chunk_rows(store) == [_chunk(0), _chunk(1, seconds=9.0), _chunk(2)]
    assert store.list("manifests/chunks") == []
    assert _parquet(store, CHUNKS_PARQUET).num_rows == 3


def test_chunk_rows_are_appended_at_most_every_so_often(store: Store) -> None:
    journal = Journal(store, CHUNKS, "run", every=3600.0)
    journal.note(_chunk(0))
    assert store.list("manifests") == []
    journal.close()
    assert read_chunk_rows(store) == [_chunk(0)]


def test_a_merge_that_dies_at_any_change_loses_no_row_and_doubles_none(store: Store) -> None:
    for changes in itertools.count():
        rows = [_chunk(10 * changes + number) for number in range(3)]
        expected = {row.key for row in (*read_chunk_rows(store), *rows)}
        try:
            mortal = MortalStore(store, changes)
            journal = Journal(mortal, CHUNKS, f"run{changes}", every=0.0)
            journal.note(rows[0])
            journal.note(*rows[1:])
            journal.close()
        except ProcessDiedError:
            merge_rows(store, CHUNKS, rows)
        else:
            assert changes > 4
            break
        found = [row.key for row in read_chunk_rows(store)]
        assert set(found) == expected
        assert len(found) == len(expected)


def test_readers_beside_a_writer_see_a_whole_table_that_only_grows(tmp_path: Path) -> None:
    store, stop = Store(str(tmp_path)), threading.Event()
    compact(store)
    problems: list[str] = []

    def read() -> None:
        rows, chunks, listed = 0, 0, 0
        while not stop.is_set():
            table, keys = _parquet(store, VIDEOS_PARQUET), len(read_chunk_rows(store))
            objects = len(read_video_rows(store))
            if table.num_rows < rows or keys < chunks or objects < listed:
                problems.append(
                    f"{table.num_rows} after {rows}, {keys} after {chunks}, {objects} after {listed}"
                )
            rows, chunks, listed = table.num_rows, keys, objects

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(15):
        create_done_row(store, VideoRow(f"/in/{number}.mp4", "k" * 64, "done"))
        compact(store)
        journal = Journal(store, CHUNKS, f"run{number:03d}", every=0.0)
        journal.note(_chunk(2 * number))
        journal.note(_chunk(2 * number + 1))
        journal.close()
        time.sleep(0.01)
    stop.set()
    reader.join()
    assert problems == []
    assert _parquet(store, VIDEOS_PARQUET).num_rows == 15
