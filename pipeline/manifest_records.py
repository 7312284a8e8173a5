"""Rows of manifests as JSON and as Parquet, and back."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_origin

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import StoreError
from pipeline.keys import canonical_json
from pipeline.manifest_schema import ChunkRow, FailureRow, RunRow, VideoRow, arrow_schema, columns
from pipeline.store import Store

Row = TypeVar("Row", VideoRow, ChunkRow, FailureRow, RunRow)
_Parsed = TypeVar("_Parsed")


def row_from(cls: type[Row], record: dict[str, Any]) -> Row:
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


def parsed(store: Store, path: str, data: bytes, parse: Callable[[Any], _Parsed]) -> _Parsed:
    """What ``parse`` makes of an object's JSON. Raises StoreError naming the object."""
    try:
        return parse(json.loads(data))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        uri = store.uri(path)
        raise StoreError(f"{uri}: not a manifest row ({error}); delete it and run again", uri=uri) from error


def read_table(store: Store, path: str, cls: type[Row]) -> list[Row]:
    """The rows of a Parquet file. Raises ObjectMissingError, StoreError."""
    data, uri = store.read(path), store.uri(path)
    try:
        return [row_from(cls, record) for record in pq.read_table(io.BytesIO(data)).to_pylist()]
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        message = f"{uri}: not a manifest ({error}); delete it and run again"
        raise StoreError(message, uri=uri) from error


def write_table(store: Store, path: str, cls: type[Row], rows: Sequence[Row]) -> None:
    """Replaces a Parquet file in one step."""
    names = [column.name for column in columns(cls)]
    records = [{name: _cell(getattr(row, name)) for name in names} for row in rows]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records, schema=arrow_schema(cls)), sink)
    store.put(path, sink.getvalue())


def _is_required(spec: dataclasses.Field[Any]) -> bool:
    return spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        return canonical_json(value).decode()
    if isinstance(value, tuple):
        return [_cell(item) for item in value]
    if isinstance(value, str):
        # A file name on disk need not be UTF-8; parquet text must be.
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return value
