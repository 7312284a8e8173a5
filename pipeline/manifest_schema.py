"""The columns of the manifests, in one place: name, type and meaning.

The dataclasses are the rows, `arrow_schema` is the Parquet schema with each column's meaning as its
metadata, `schema_text` the same for people (`infra/manifests.md`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

import pyarrow as pa

_ARROW_TYPES: dict[Any, pa.DataType] = {
    int: pa.int64(),
    float: pa.float64(),
    tuple[str, ...]: pa.list_(pa.string()),
}  # every other column is text; dicts are stored as canonical JSON
_TYPE_NAMES = {"string": "text", "list<item: string>": "list of text"}


@dataclass(frozen=True)
class VideoRow:
    """What became of one source video; ``status`` done means ``output_rel`` is complete and verified."""

    video_uri: Annotated[str, "source video: absolute path or URL"]
    video_key: Annotated[str, "content key of the output: digest of everything it depends on"]
    status: Annotated[
        Literal["done", "quarantined"], "done, or quarantined: not published, see code and error"
    ]
    code: Annotated[
        str, "stable word for the reason of a quarantine, such as no_video_stream; empty when done"
    ] = ""
    error: Annotated[str, "the reason as a sentence that says what to do; empty when done"] = ""
    stage: Annotated[
        str, "step that failed: index, plan, decode, enhance, encode, assemble; empty when done"
    ] = ""
    attempts: Annotated[
        int, "how often the failing step was begun, in earlier runs too if it killed its process; 0 when done"
    ] = 0
    node: Annotated[str, "machine of the last attempt; empty when done"] = ""
    output_uri: Annotated[str, "published video as it was addressed by the run; empty when quarantined"] = ""
    output_rel: Annotated[str, "published video relative to the output root"] = ""
    source_digest: Annotated[str, "SHA-256 of the source file"] = ""
    source_version: Annotated[
        str, "what storage said of the source when it was hashed: digest of size, times, inode or ETag"
    ] = ""
    output_sha256: Annotated[str, "SHA-256 of the published file"] = ""
    frames: Annotated[int, "frames of the published video"] = 0
    frames_md5: Annotated[str, "MD5 over all decoded planes of the published video"] = ""
    pts_sha256: Annotated[str, "SHA-256 of its comma-joined timestamps"] = ""
    spec_digest: Annotated[str, "digest of the parts of the job that affect pixels"] = ""
    model_digest: Annotated[str, "digest of the model's files; empty when nothing is enhanced"] = ""
    style_digest: Annotated[str, "digest of the style references; empty without"] = ""
    versions: Annotated[dict[str, str], "versions of the packages that affect pixels"] = field(
        default_factory=dict
    )
    seed: Annotated[int, "seed of the job"] = 0
    warnings: Annotated[tuple[str, ...], "what was odd about the video, as sentences"] = ()
    dropped_streams: Annotated[tuple[str, ...], "streams that the output container cannot carry"] = ()
    metrics: Annotated[dict[str, Any], "bytes, encoder, checks of the verification and their figures"] = (
        field(default_factory=dict)
    )
    token: Annotated[int, "fencing token of the run that wrote the row; of two rows the higher counts"] = 0


@dataclass(frozen=True)
class ChunkRow:
    """One finished unit of work: frames ``first`` to ``last`` (exclusive) of ``video_uri``."""

    key: Annotated[str, "content key of the result in the chunk store; equal videos share it, in a row each"]
    video_uri: Annotated[str, "source video: absolute path or URL"]
    level: Annotated[
        Literal["style", "anchors", "knot", "chunk"], "what was made: style, anchors, knot, chunk"
    ]
    scene: Annotated[int, "number of the scene in its video, from 0"]
    chunk: Annotated[int, "number of the unit at its level, from 0"]
    first: Annotated[int, "first frame, counted from 0 over the video"]
    last: Annotated[int, "frame after the last one"]
    frames: Annotated[int, "frames of the unit"]
    seconds: Annotated[float, "seconds the unit took, decoding to commit"]
    attempts: Annotated[int, "how often it was begun"]
    node: Annotated[str, "machine that finished it"]
    metrics: Annotated[dict[str, Any], "fidelity and consistency figures, where measured"] = field(
        default_factory=dict
    )
    actor: Annotated[
        str, "machine and process id that computed it; empty where the run that did was killed"
    ] = ""
    begun: Annotated[float, "when that began, seconds since 1970 by that machine's clock; 0 when unknown"] = (
        0.0
    )
    ended: Annotated[float, "when that ended, likewise"] = 0.0


@dataclass(frozen=True)
class FailureRow:
    """One attempt that failed, whatever became of its video."""

    run_id: Annotated[str, "run in which it failed"]
    video_uri: Annotated[str, "source video: absolute path or URL"]
    key: Annotated[str, "what failed: key of the unit, address of a source or key of a video"]
    level: Annotated[
        Literal["video", "anchors", "knots", "chunk"],
        "what failed: video (as a whole), anchors, knots, chunk",
    ]
    scene: Annotated[int, "number of the scene in its video, from 0; -1 for the whole video"]
    chunk: Annotated[int, "number of the unit at its level, from 0; -1 for the whole video"]
    stage: Annotated[str, "step that failed: index, plan, decode, enhance, encode, assemble"]
    code: Annotated[str, "stable word for the reason"]
    error: Annotated[str, "the reason as a sentence"]
    attempts: Annotated[int, "how often the step had been begun"]
    node: Annotated[str, "machine it failed on"]
    outcome: Annotated[
        Literal["retried", "quarantined", "stopped", "recomputed"],
        "retried, or what followed: the video was quarantined; the run stopped, and the video is left; a "
        "lost result was recomputed",
    ]


@dataclass(frozen=True)
class RunRow:
    """One run, however it ended."""

    run_id: Annotated[str, "the run; its files are in runs/<run_id>/"]
    name: Annotated[str, "name of the job"]
    status: Annotated[
        Literal["done", "quarantined", "refused", "failed", "interrupted"],
        "done; quarantined: all but some videos done; refused: bad input; failed; interrupted",
    ]
    exit_code: Annotated[int, "exit code of the command: 0, 3, 2, 1 or 130, in the order of status"]
    error: Annotated[str, "why it was refused or failed, as a sentence; else empty"]
    begun: Annotated[float, "when it began, seconds since 1970 by the driver's clock"]
    seconds: Annotated[float, "how long it took"]
    videos: Annotated[int, "videos of its catalog"]
    published: Annotated[int, "videos that it published"]
    already_done: Annotated[int, "videos that it found done; not known of runs that ended before planning"]
    quarantined: Annotated[int, "videos that it quarantined"]
    left: Annotated[int, "videos that were neither done nor quarantined when it ended"]
    node: Annotated[str, "machine of the driver"]
    version: Annotated[str, "version of reelweave"]


ManifestRow: TypeAlias = VideoRow | ChunkRow | FailureRow | RunRow
TABLES: dict[str, type[ManifestRow]] = {
    "videos": VideoRow,
    "chunks": ChunkRow,
    "failures": FailureRow,
    "runs": RunRow,
}


@dataclass(frozen=True)
class Column:
    """One column: its name, the Python type of its values and what they mean."""

    name: str
    type: Any
    meaning: str


def columns(cls: type[ManifestRow]) -> tuple[Column, ...]:
    """The columns of a manifest in order."""
    hints = get_type_hints(cls, include_extras=True)
    return tuple(Column(name, *get_args(hint)) for name, hint in hints.items())


def arrow_schema(cls: type[ManifestRow]) -> pa.Schema:
    """The Parquet schema of a manifest; each field's metadata holds its ``meaning``."""
    return pa.schema(
        [
            pa.field(c.name, _ARROW_TYPES.get(c.type, pa.string()), metadata={"meaning": c.meaning})
            for c in columns(cls)
        ]
    )


def schema_text() -> str:
    """The columns of all manifests as Markdown tables."""
    lines = ["# Manifests", "", "Written by `pipeline.manifest_schema.schema_text`; a test compares it.", ""]
    for name, cls in TABLES.items():
        lines += [f"## manifests/{name}.parquet", "", "| column | type | meaning |", "|---|---|---|"]
        for column, stored in zip(columns(cls), arrow_schema(cls), strict=True):
            kind = "text (JSON)" if get_origin(column.type) is dict else str(stored.type)
            lines.append(f"| {column.name} | {_TYPE_NAMES.get(kind, kind)} | {column.meaning} |")
        lines.append("")
    return "\n".join(lines)
