"""Manifests: what became of every source video and of every chunk.

    manifests/videos/<sha256(video_uri)[:16]>/<video_key>.json               done: created once, never changed
    manifests/videos/<sha256(video_uri)[:16]>/<video_key>.quarantined.json   refused, and why: replaceable
    manifests/videos.parquet, manifests/chunks.parquet                       the same for readers, compacted

The JSON rows are the truth and each is one object, so any number of writers may add them; the parquet
files are written by the driver alone and can be made again at any time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import StoreError
from pipeline.filesystem import ObjectMissingError
from pipeline.keys import canonical_json
from pipeline.store import Store

VIDEOS_PARQUET = "manifests/videos.parquet"
CHUNKS_PARQUET = "manifests/chunks.parquet"

_VIDEO_ROWS = "manifests/videos"
_QUARANTINED = ".quarantined.json"
_READERS = 16


@dataclass(frozen=True)
class VideoRow:
    """What became of one source video; ``status`` done means ``output_rel`` is complete and verified.

    ``video_key`` names everything the output depends on. ``code`` and ``error`` are empty when done;
    output fields are empty when quarantined. ``frames_md5`` is over all decoded planes of the output,
    ``pts_sha256`` over its comma-joined timestamps. ``versions`` and ``metrics`` hold finite JSON.
    """

    video_uri: str
    video_key: str
    status: Literal["done", "quarantined"]
    code: str = ""
    error: str = ""
    output_uri: str = ""
    output_rel: str = ""
    source_digest: str = ""
    output_sha256: str = ""
    frames: int = 0
    frames_md5: str = ""
    pts_sha256: str = ""
    spec_digest: str = ""
    model_digest: str = ""
    style_digest: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    warnings: tuple[str, ...] = ()
    dropped_streams: tuple[str, ...] = ()
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ChunkRow:
    """One finished unit of work: frames ``first`` to ``last`` (exclusive) of ``video_uri``.

    ``level`` tells what was made, ``seconds`` how long it took, ``node`` where, ``attempts`` how many
    times it was begun. ``metrics`` (fidelity, consistency) holds finite JSON.
    """

    key: str
    video_uri: str
    level: Literal["style", "anchors", "knot", "chunk"]
    scene: int
    chunk: int
    first: int
    last: int
    frames: int
    seconds: float
    attempts: int
    node: str
    metrics: dict[str, Any] = field(default_factory=dict)


Row = TypeVar("Row", VideoRow, ChunkRow)

_ARROW_TYPES = {
    "int": pa.int64(),
    "float": pa.float64(),
    "tuple[str, ...]": pa.list_(pa.string()),
}  # every other field is text; dicts are stored as canonical JSON


def row_path(video_uri: str, video_key: str, status: str) -> str:
    """Where the JSON row of a video lives, relative to the output root."""
    ending = ".json" if status == "done" else _QUARANTINED
    return f"{_rows_folder(video_uri)}/{video_key}{ending}"


def find_row(store: Store, video_uri: str, video_key: str) -> VideoRow | None:
    """The row of exactly this result: done if there is one, else quarantined, else None."""
    for status in ("done", "quarantined"):
        row = _read_row(store, row_path(video_uri, video_key, status))
        if row is not None:
            return row
    return None


def read_video_rows(store: Store) -> list[VideoRow]:
    """One row per ``video_uri``, sorted by it. Writers keep one; where two met, done outranks quarantined."""
    paths = [path for path in store.list(_VIDEO_ROWS) if path.endswith(".json")]
    with ThreadPoolExecutor(_READERS) as pool:
        rows = [row for row in pool.map(lambda path: _read_row(store, path), paths) if row is not None]
    rows.sort(key=lambda row: (row.video_uri, row.status == "done", row.video_key))
    return list({row.video_uri: row for row in rows}.values())


def create_done_row(store: Store, row: VideoRow) -> bool:
    """Commits a done row; False when one of the same key exists, which is left as it is."""
    return store.put_new(row_path(row.video_uri, row.video_key, "done"), canonical_json(row))


def replace_done_row(store: Store, row: VideoRow) -> None:
    """Corrects a done row that was found to disagree with the published bytes."""
    store.put(row_path(row.video_uri, row.video_key, "done"), canonical_json(row))


def write_quarantined(store: Store, row: VideoRow) -> None:
    """Records a refused video in place of every older row of it.

    A done row of the same ``video_key`` stays and wins: another attempt succeeded after all.
    """
    if _read_row(store, row_path(row.video_uri, row.video_key, "done")) is None:
        withdraw_rows(store, row.video_uri)
        store.put(row_path(row.video_uri, row.video_key, "quarantined"), canonical_json(row))


def withdraw_rows(store: Store, video_uri: str) -> None:
    """Deletes all rows of a video: it counts as left until the next row is written."""
    for path in store.list(_rows_folder(video_uri)):
        store.delete(path)


def compact(store: Store) -> None:
    """Writes manifests/videos.parquet from the rows, atomically, sorted by ``video_uri``."""
    _write_table(store, VIDEOS_PARQUET, VideoRow, read_video_rows(store))


def write_chunk_rows(store: Store, rows: Iterable[ChunkRow]) -> None:
    """Merges rows into manifests/chunks.parquet by ``key`` (the newer wins). For one writer, the driver."""
    merged = {row.key: row for row in (*read_chunk_rows(store), *rows)}
    ordered = sorted(merged.values(), key=lambda r: (r.video_uri, r.scene, r.level, r.first, r.key))
    _write_table(store, CHUNKS_PARQUET, ChunkRow, ordered)


def read_chunk_rows(store: Store) -> list[ChunkRow]:
    """All rows of manifests/chunks.parquet; none when it does not exist."""
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


def _rows_folder(video_uri: str) -> str:
    name = video_uri.encode("utf-8", "surrogateescape")
    return f"{_VIDEO_ROWS}/{hashlib.sha256(name).hexdigest()[:16]}"


def _read_row(store: Store, path: str) -> VideoRow | None:
    try:
        data = store.read(path)
    except ObjectMissingError:
        return None
    uri = store.uri(path)
    try:
        return _row_from(VideoRow, json.loads(data))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{uri}: not a manifest row ({error}); delete it and run again", uri=uri) from error


def _row_from(cls: type[Row], record: dict[str, Any]) -> Row:
    """A row from its JSON or parquet record. Raises KeyError, TypeError or ValueError."""
    values = {}
    for spec in dataclasses.fields(cls):
        value = record[spec.name]
        if spec.type == "tuple[str, ...]":
            value = tuple(value)
        elif str(spec.type).startswith("dict") and isinstance(value, str):
            value = json.loads(value)
        values[spec.name] = value
    return cls(**values)


def _write_table(store: Store, path: str, cls: type[Row], rows: list[Row]) -> None:
    columns = dataclasses.fields(cls)
    schema = pa.schema([(column.name, _ARROW_TYPES.get(str(column.type), pa.string())) for column in columns])
    records = [{column.name: _cell(getattr(row, column.name)) for column in columns} for row in rows]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records, schema=schema), sink)
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
