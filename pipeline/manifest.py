"""Manifests: what became of every source video and of every chunk.

    manifests/videos/<sha256(video_uri)[:16]>/<video_key>.<token>.json              done; created once
    manifests/videos/<sha256(video_uri)[:16]>/<video_key>.<token>.quarantined.json  refused, and why
    manifests/chunks/<run>-<number>.json                                            finished units, appended
    manifests/videos.parquet, manifests/chunks.parquet                              the same, compacted

The JSON objects are the truth. They are only ever added, so any number of writers may do so while others
read; of several rows of one video the one with the highest fencing token stands (`pipeline.lease`), and of
those done stands before quarantined. The Parquet files are written whole by the driver, while it runs and
at its end, and can be made again at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, get_origin

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import StoreError
from pipeline.filesystem import ObjectMissingError
from pipeline.keys import canonical_json
from pipeline.lease import NO_LEASE, Fence
from pipeline.manifest_schema import ChunkRow, VideoRow, arrow_schema, columns
from pipeline.metrics import count_video
from pipeline.redact import redacted
from pipeline.store import Store

__all__ = [
    "CHUNKS_PARQUET",
    "VIDEOS_PARQUET",
    "ChunkJournal",
    "ChunkRow",
    "VideoRow",
    "VideosTable",
    "compact",
    "create_done_row",
    "find_row",
    "read_chunk_rows",
    "read_video_rows",
    "replace_done_row",
    "row_path",
    "withdraw_rows",
    "write_chunk_rows",
    "write_quarantined",
]

VIDEOS_PARQUET = "manifests/videos.parquet"
CHUNKS_PARQUET = "manifests/chunks.parquet"

_VIDEO_ROWS = "manifests/videos"
_CHUNK_ROWS = "manifests/chunks"
_ROW_NAME = re.compile(r"(?P<key>[^./]+)(?:\.(?P<token>\d+))?(?P<quarantined>\.quarantined)?\.json")
_READERS = 16

Row = TypeVar("Row", VideoRow, ChunkRow)


@dataclass(frozen=True, order=True)
class _RowName:
    """What the path of a video row says; the greatest of a video stands."""

    token: int
    done: bool
    key: str
    path: str


def row_path(video_uri: str, video_key: str, status: str, token: int = 0) -> str:
    """Where the JSON row of a video lives, relative to the output root."""
    ending = "" if status == "done" else ".quarantined"
    return f"{_rows_folder(video_uri)}/{video_key}.{token:010d}{ending}.json"


def find_row(store: Store, video_uri: str, video_key: str) -> VideoRow | None:
    """The row that stands for a video, if it is of exactly this result; else None."""
    names = _row_names(store.list(_rows_folder(video_uri)))
    if not names or max(names).key != video_key:
        return None
    return _read_row(store, max(names).path)


def read_video_rows(store: Store) -> list[VideoRow]:
    """One row per video, the one that stands, sorted by ``video_uri``."""
    standing: dict[str, _RowName] = {}
    for name in _row_names(store.list(_VIDEO_ROWS)):
        folder = name.path.rpartition("/")[0]
        standing[folder] = max(name, standing.get(folder, name))
    with ThreadPoolExecutor(_READERS) as pool:
        rows = pool.map(lambda name: _read_row(store, name.path), standing.values())
        return sorted((row for row in rows if row is not None), key=lambda row: row.video_uri)


def create_done_row(store: Store, row: VideoRow) -> bool:
    """Commits a done row; False when one of the same key and token exists, which is left as it is."""
    return store.put_new(row_path(row.video_uri, row.video_key, "done", row.token), _row_bytes(row))


def replace_done_row(store: Store, row: VideoRow) -> None:
    """Corrects a done row that was found to disagree with the published bytes."""
    store.put(row_path(row.video_uri, row.video_key, "done", row.token), _row_bytes(row))


def write_quarantined(store: Store, row: VideoRow, fence: Fence = NO_LEASE) -> None:
    """Records a refused video in place of every older row of it.

    A done row of the same ``video_key`` stays and wins: another attempt succeeded after all. Raises
    LeaseLostError when another run has taken over.
    """
    fence.check(store)
    done = find_row(store, row.video_uri, row.video_key)
    if done is None or done.status != "done":
        row = dataclasses.replace(row, token=fence.token)
        withdraw_rows(store, row.video_uri, fence.token)
        store.put(row_path(row.video_uri, row.video_key, "quarantined", row.token), _row_bytes(row))


def withdraw_rows(store: Store, video_uri: str, token: int = 0) -> None:
    """Deletes the rows of a video that runs up to ``token`` wrote: it counts as left until the next row.

    A later run's row is not touched, however late this one comes.
    """
    for name in _row_names(store.list(_rows_folder(video_uri))):
        if name.token <= token:
            store.delete(name.path)


def compact(store: Store) -> None:
    """Writes manifests/videos.parquet from the rows, in one step, sorted by ``video_uri``."""
    _write_table(store, VIDEOS_PARQUET, VideoRow, read_video_rows(store))


class VideosTable:
    """manifests/videos.parquet while a run goes on: written again when something was noted, at most once
    in ``every`` seconds. Older rows are read once, so a large catalog is not read for each of its videos."""

    def __init__(self, store: Store, *, every: float = 30.0) -> None:
        self._store = store
        self._every = every
        self._written = time.monotonic()
        self._noted: dict[str, VideoRow] = {}
        self._before: list[VideoRow] | None = None

    def note(self, row: VideoRow) -> None:
        """A row that this run has just committed."""
        self._noted[row.video_uri] = row
        count_video(row.status, row.code)
        if time.monotonic() - self._written >= self._every:
            if self._before is None:
                self._before = read_video_rows(self._store)
            rows = {**{row.video_uri: row for row in self._before}, **self._noted}
            _write_table(self._store, VIDEOS_PARQUET, VideoRow, [rows[uri] for uri in sorted(rows)])
            self._written = time.monotonic()


class ChunkJournal:
    """Rows of finished units on their way into manifests/chunks.parquet: appended as small objects while
    the run goes on, so that a kill costs the last few seconds of them, and merged by `close`."""

    def __init__(self, store: Store, run_id: str, *, every: float = 10.0) -> None:
        self._store = store
        self._run_id = run_id
        self._every = every
        self._written = time.monotonic()
        self._number = 0

    def keep(self, rows: list[ChunkRow]) -> None:
        """Appends ``rows`` and empties the list, if the last time was ``every`` seconds ago."""
        if rows and time.monotonic() - self._written >= self._every:
            self._append(rows)

    def close(self, rows: list[ChunkRow], *, merge: bool = True) -> None:
        """Appends these last rows and merges all into the Parquet file; a run that was overtaken leaves
        merging to the later one."""
        if rows:
            self._append(rows)
        if merge:
            write_chunk_rows(self._store, ())

    def _append(self, rows: list[ChunkRow]) -> None:
        self._store.put(f"{_CHUNK_ROWS}/{self._run_id}-{self._number:06d}.json", canonical_json(rows))
        rows.clear()
        self._number += 1
        self._written = time.monotonic()


def write_chunk_rows(store: Store, rows: Iterable[ChunkRow]) -> None:
    """Merges appended rows and ``rows`` into manifests/chunks.parquet by ``key`` (the newer wins).

    For one writer, the driver. The appended objects go once the file that holds them is in place.
    """
    appended = store.list(_CHUNK_ROWS)
    merged = {row.key: row for row in (*read_chunk_rows(store), *rows)}
    if merged or store.exists(CHUNKS_PARQUET):
        ordered = sorted(merged.values(), key=lambda r: (r.video_uri, r.scene, r.level, r.first, r.key))
        _write_table(store, CHUNKS_PARQUET, ChunkRow, ordered)
    for path in appended:
        store.delete(path)


def read_chunk_rows(store: Store) -> list[ChunkRow]:
    """All rows of finished units: those of manifests/chunks.parquet and those appended since."""
    appended = store.list(_CHUNK_ROWS)  # before the table: what is merged in between is read twice, not never
    rows = {row.key: row for row in _table_rows(store)}
    for path in appended:
        with contextlib.suppress(ObjectMissingError):
            rows |= {row.key: row for row in _parsed(store, path, store.read(path), _chunk_rows)}
    return list(rows.values())


def _table_rows(store: Store) -> list[ChunkRow]:
    try:
        data = store.read(CHUNKS_PARQUET)
    except ObjectMissingError:
        return []
    uri = store.uri(CHUNKS_PARQUET)
    try:
        table = pq.read_table(io.BytesIO(data))
        return [_row_from(ChunkRow, record) for record in table.to_pylist()]
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        message = f"{uri}: not a chunk manifest ({error}); delete it and run again"
        raise StoreError(message, uri=uri) from error


def _chunk_rows(records: Any) -> list[ChunkRow]:
    return [_row_from(ChunkRow, record) for record in records]


def _rows_folder(video_uri: str) -> str:
    name = video_uri.encode("utf-8", "surrogateescape")
    return f"{_VIDEO_ROWS}/{hashlib.sha256(name).hexdigest()[:16]}"


def _row_names(paths: Iterable[str]) -> list[_RowName]:
    names = []
    for path in paths:
        found = _ROW_NAME.fullmatch(path.rpartition("/")[2])
        if found:
            names.append(_RowName(int(found["token"] or 0), not found["quarantined"], found["key"], path))
    return names


def _read_row(store: Store, path: str) -> VideoRow | None:
    try:
        data = store.read(path)
    except ObjectMissingError:
        return None
    return _parsed(store, path, data, lambda record: _row_from(VideoRow, record))


_Parsed = TypeVar("_Parsed")


def _parsed(store: Store, path: str, data: bytes, parse: Callable[[Any], _Parsed]) -> _Parsed:
    try:
        return parse(json.loads(data))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        uri = store.uri(path)
        raise StoreError(f"{uri}: not a manifest row ({error}); delete it and run again", uri=uri) from error


def _row_bytes(row: VideoRow) -> bytes:
    return canonical_json(
        dataclasses.replace(
            row, error=redacted(row.error), warnings=tuple(redacted(text) for text in row.warnings)
        )
    )


def _row_from(cls: type[Row], record: dict[str, Any]) -> Row:
    """A row from its JSON or Parquet record; columns that an earlier version did not have get their
    defaults. Raises KeyError, TypeError or ValueError."""
    required = {spec.name for spec in dataclasses.fields(cls) if _is_required(spec)}
    values = {}
    for column in columns(cls):
        if column.name not in record and column.name not in required:
            continue
        value = record[column.name]
        if get_origin(column.type) is tuple:
            value = tuple(value)
        elif get_origin(column.type) is dict and isinstance(value, str):
            value = json.loads(value)
        values[column.name] = value
    return cls(**values)


def _is_required(spec: dataclasses.Field[Any]) -> bool:
    return spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING


def _write_table(store: Store, path: str, cls: type[Row], rows: list[Row]) -> None:
    names = [column.name for column in columns(cls)]
    records = [{name: _cell(getattr(row, name)) for name in names} for row in rows]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records, schema=arrow_schema(cls)), sink)
    store.put(path, sink.getvalue())


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        return canonical_json(value).decode()
    if isinstance(value, tuple):
        return [_cell(item) for item in value]
    if isinstance(value, str):
        # A file name on disk need not be UTF-8; parquet text must be.
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return value
