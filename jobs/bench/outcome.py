"""What a job leaves for its readers, so that two runs of it can be compared."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import parquet

from pipeline.errors import SourceError
from pipeline.filesystem import ObjectMissingError
from pipeline.keys import file_sha256
from pipeline.manifest import CHUNKS_PARQUET, VIDEOS_PARQUET, read_video_rows
from pipeline.store import Store
from pipeline.video.measured import measure

#: Columns and metrics that say who made something, when and where, and not what it is.
_OF_THE_RUN = frozenset(
    {"token", "attempts", "node", "output_uri", "seconds", "assemble_seconds", "actor", "begun", "ended"}
)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """``videos``: rows of the manifest by source URI; ``units``: rows of the chunk manifest by key and source
    URI; ``files``: SHA-256 and MD5 over the decoded frames of everything published, by path; ``standing``:
    key and status of the row objects by source URI."""

    videos: Mapping[str, Row]
    units: Mapping[str, Row]
    files: Mapping[str, tuple[str, str]]
    standing: Mapping[str, tuple[str, str]]


def read_outcome(store: Store) -> Outcome:
    """Reads both tables and decodes every published file. Raises StoreError."""
    return Outcome(
        videos={row["video_uri"]: row for row in _table(store, VIDEOS_PARQUET)},
        units={f"{row['key']} of {row['video_uri']}": row for row in _table(store, CHUNKS_PARQUET)},
        files={path: _measured(store, path) for path in store.list("videos")},
        standing={row.video_uri: (row.video_key, row.status) for row in read_video_rows(store)},
    )


def differences(calm: Outcome, found: Outcome) -> list[str]:
    """Where ``found`` is not what an undisturbed run left, one sentence each."""
    told = {uri: (row["video_key"], row["status"]) for uri, row in found.videos.items()}
    return [
        *_unequal("video", calm.videos, found.videos),
        *_unequal("unit", calm.units, found.units),
        *_unequal("file", calm.files, found.files),
        *_unequal("row object", told, found.standing),
    ]


def identical_frames(calm: Outcome, found: Outcome) -> int:
    """Frames of published videos that decode, all of a video together, as in an undisturbed run."""
    same = {path for path, (_, md5) in calm.files.items() if found.files.get(path, ("", ""))[1] == md5}
    return sum(int(row["frames"]) for row in calm.videos.values() if row["output_rel"] in same)


def untrue_rows(store: Store) -> list[str]:
    """Done videos whose published file is not the one their row speaks of; to be asked at any time."""
    return [
        f"{row.video_uri}: the row does not describe the published file"
        for row in read_video_rows(store)
        if row.status == "done" and _sha256(store, row.output_rel) != row.output_sha256
    ]


def _unequal(what: str, calm: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(calm.keys() | found.keys()):
        if name not in found:
            yield f"{what} {name} is lost"
        elif name not in calm:
            yield f"{what} {name} should not be there"
        elif found[name] != calm[name]:
            yield f"{what} {name} differs: {found[name]} and not {calm[name]}"


def _table(store: Store, path: str) -> list[Row]:
    rows = parquet.read_table(io.BytesIO(store.read(path))).to_pylist()
    return [_lasting(row) for row in rows]


def _lasting(row: Row) -> Row:
    metrics = json.loads(row["metrics"])
    kept = {name: value for name, value in metrics.items() if name not in _OF_THE_RUN}
    return {name: value for name, value in row.items() if name not in _OF_THE_RUN} | {"metrics": kept}


def _measured(store: Store, path: str) -> tuple[str, str]:
    with tempfile.TemporaryDirectory(prefix="reelweave-") as folder:
        local = Path(folder, "video")
        store.get_file(path, local)
        try:
            return file_sha256(local), measure(str(local)).frames_md5
        except SourceError as error:
            return file_sha256(local), error.code


def _sha256(store: Store, path: str) -> str:
    try:
        return store.sha256(path)
    except ObjectMissingError:
        return "absent"
