"""Manifests: what became of every source video, of every chunk and of every attempt that failed.

    manifests/videos/<sha256(video_uri)[:16]>/<video_key>.<token>.json              done; created once
    manifests/videos/<sha256(video_uri)[:16]>/<video_key>.<token>.quarantined.json  refused, and why
    manifests/chunks/<run>-<number>.json                                            finished units, appended
    manifests/failures/<run>-<number>.json                                          failed attempts, appended
    manifests/videos.parquet, chunks.parquet, failures.parquet                      the same, compacted

The JSON objects are the truth. They are only ever added, so any number of writers may do so while others
read; of several rows of one video the one with the highest fencing token stands (`pipeline.lease`), and of
those done stands before quarantined. The Parquet files are written whole by the driver, while it runs and
at its end, and can be made again at any time. Chunks and failures: `pipeline.journal`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.filesystem import ObjectMissingError
from pipeline.journal import CHUNKS, read_rows
from pipeline.keys import canonical_json
from pipeline.lease import NO_LEASE, Fence
from pipeline.manifest_records import parsed, row_from, write_table
from pipeline.manifest_schema import ChunkRow, VideoRow
from pipeline.redact import redacted
from pipeline.store import Store

__all__ = [
    "CHUNKS_PARQUET",
    "VIDEOS_PARQUET",
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
    "write_quarantined",
]

VIDEOS_PARQUET = "manifests/videos.parquet"
CHUNKS_PARQUET = CHUNKS.path

_VIDEO_ROWS = "manifests/videos"
_ROW_NAME = re.compile(r"(?P<key>[^./]+)(?:\.(?P<token>\d+))?(?P<quarantined>\.quarantined)?\.json")
_READERS = 16


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
    write_table(store, VIDEOS_PARQUET, VideoRow, read_video_rows(store))


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
        if time.monotonic() - self._written >= self._every:
            if self._before is None:
                self._before = read_video_rows(self._store)
            rows = {**{row.video_uri: row for row in self._before}, **self._noted}
            write_table(self._store, VIDEOS_PARQUET, VideoRow, [rows[uri] for uri in sorted(rows)])
            self._written = time.monotonic()


def read_chunk_rows(store: Store) -> list[ChunkRow]:
    """All rows of finished units, merged into the Parquet file or appended since."""
    return read_rows(store, CHUNKS)


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
    return parsed(store, path, data, lambda record: row_from(VideoRow, record))


def _row_bytes(row: VideoRow) -> bytes:
    return canonical_json(
        dataclasses.replace(
            row, error=redacted(row.error), warnings=tuple(redacted(text) for text in row.warnings)
        )
    )
