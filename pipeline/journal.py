"""Manifests that grow while a run goes on: rows are appended as small objects and merged at its end.

    manifests/<table>/<run>-<number>.json      rows, appended every few seconds
    manifests/<table>.parquet                  all rows, written whole

A kill costs the rows of the last few seconds; finished units get theirs from the next run
(`pipeline.units.unlisted_rows`), and those of a video are kept before it is published. Readers take both:
a row that is being merged is seen twice and counted once, never missed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from pipeline.filesystem import ObjectMissingError
from pipeline.keys import canonical_json
from pipeline.manifest_records import Row, parsed, read_table, row_from, write_table
from pipeline.manifest_schema import ChunkRow, FailureRow, RunRow
from pipeline.store import Store


@dataclass(frozen=True)
class Table(Generic[Row]):
    """One such manifest. Of rows with the same ``identity`` the newest counts; ``order`` sorts them."""

    name: str
    row: type[Row]
    identity: Callable[[Row], Hashable]
    order: Callable[[Row], Any]

    @property
    def path(self) -> str:
        """The Parquet file, relative to the output root."""
        return f"manifests/{self.name}.parquet"

    @property
    def appended(self) -> str:
        """The folder of the rows that are not merged yet."""
        return f"manifests/{self.name}"


CHUNKS = Table(
    "chunks",
    ChunkRow,
    identity=lambda row: (row.video_uri, row.key),  # equal videos share their units
    order=lambda row: (row.video_uri, row.scene, row.level, row.first, row.key),
)
FAILURES = Table(
    "failures",
    FailureRow,
    identity=lambda row: (row.run_id, row.key, row.video_uri, row.stage, row.attempts, row.code, row.outcome),
    order=lambda row: (row.run_id, row.video_uri, row.scene, row.chunk, row.stage, row.attempts, row.key),
)

RUNS = Table("runs", RunRow, identity=lambda row: row.run_id, order=lambda row: (row.begun, row.run_id))


class Journal(Generic[Row]):
    """Rows on their way into a table; `close` merges them."""

    def __init__(self, store: Store, table: Table[Row], run_id: str, *, every: float = 10.0) -> None:
        self._store = store
        self._table: Table[Row] = table
        self._run_id = run_id
        self._every = every
        self._written = time.monotonic()
        self._number = 0
        self._rows: list[Row] = []

    def note(self, *rows: Row) -> None:
        """Rows to keep; they are appended if the last time was ``every`` seconds ago."""
        self._rows += rows
        if time.monotonic() - self._written >= self._every:
            self.append()

    def close(self, *, merge: bool = True) -> None:
        """Appends the last rows and merges all into the Parquet file; a run that was overtaken leaves
        merging to the later one."""
        self.append()
        if merge:
            merge_rows(self._store, self._table)

    def append(self) -> None:
        """Appends what was noted since the last time, at once."""
        if not self._rows:
            return
        path = f"{self._table.appended}/{self._run_id}-{self._number:06d}.json"
        self._store.put(path, canonical_json(self._rows))
        self._rows = []
        self._number += 1
        self._written = time.monotonic()


def merge_rows(store: Store, table: Table[Row], rows: Sequence[Row] = ()) -> None:
    """Merges appended rows and ``rows`` into the Parquet file.

    For one writer, the driver. The appended objects go once the file that holds them is in place.
    """
    appended = store.list(table.appended)
    if not appended and not rows:
        return
    merged: dict[Hashable, Row] = {table.identity(row): row for row in read_rows(store, table)}
    merged |= {table.identity(row): row for row in rows}
    write_table(store, table.path, table.row, sorted(merged.values(), key=table.order))
    for path in appended:
        store.delete(path)


def read_rows(store: Store, table: Table[Row]) -> list[Row]:
    """All rows: those of the Parquet file and those appended since."""
    # Listed before the file is read: what is merged in between is read twice, not never.
    appended = store.list(table.appended)
    merged: list[Row] = _merged_rows(store, table)
    rows: list[Row] = []
    vanished = False
    for path in appended:
        try:
            data = store.read(path)
        except ObjectMissingError:
            vanished = True
            continue
        rows += parsed(store, path, data, lambda records: [row_from(table.row, r) for r in records])
    if vanished:  # merged after the file was read, which by now holds it
        merged = _merged_rows(store, table)
    merged += rows
    return list({table.identity(row): row for row in merged}.values())


def _merged_rows(store: Store, table: Table[Row]) -> list[Row]:
    try:
        return read_table(store, table.path, table.row)
    except ObjectMissingError:
        return []
