"""The index as bytes: zlib-compressed canonical JSON, equal bytes for equal indices; integers as base64."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import asdict, fields
from fractions import Fraction
from typing import Any

from pipeline.errors import StoreError
from pipeline.video.integers import Hashes, Integers
from pipeline.video.looks import FrameLooks
from pipeline.video.types import Colour, Geometry, Hdr, StreamSummary, Treatment, VideoIndex

SCHEMA = "reelweave-index-4"


def index_to_bytes(index: VideoIndex) -> bytes:
    """Serialize; `index_from_bytes` restores an equal value."""
    document = {"schema": SCHEMA, "index": asdict(index)}
    text = json.dumps(document, default=_encode, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return zlib.compress(text.encode(), 6)


def index_from_bytes(data: bytes) -> VideoIndex:
    """Restore an index.

    Raises:
        StoreError: the bytes are damaged or of another schema; delete the object and run again.
    """
    try:
        document = json.loads(zlib.decompress(data))
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']}")
        return _restore(document["index"])
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"A stored index is damaged or of another version ({error}); delete it and run again."
        ) from error


def _encode(value: Any) -> str:
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, Integers):
        return value.to_text()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no place in an index")


def _restore(raw: dict[str, Any]) -> VideoIndex:
    values = {f.name: _tuples(raw[f.name]) for f in fields(VideoIndex)}
    values |= {name: Integers.from_text(raw[name]) for name in ("pts", "durations", "key_pts", "key_dts")}
    values["frame_hashes"] = Hashes.from_text(raw["frame_hashes"])
    geometry = raw["geometry"]
    values["time_base"] = Fraction(raw["time_base"])
    values["average_rate"] = Fraction(raw["average_rate"])
    values["streams"] = tuple(StreamSummary(**s) for s in raw["streams"])
    values["looks"] = FrameLooks(**{n: base64.b64decode(v, validate=True) for n, v in raw["looks"].items()})
    values["colour"] = Colour(**raw["colour"])
    values["geometry"] = Geometry(
        width=geometry["width"],
        height=geometry["height"],
        sample_aspect_ratio=Fraction(geometry["sample_aspect_ratio"]),
        display_matrix=_tuples(geometry["display_matrix"]),
    )
    values["treatment"] = Treatment(**{n: _tuples(v) for n, v in raw["treatment"].items()})
    hdr = raw["hdr"]
    values["hdr"] = None if hdr is None else Hdr(**{name: _tuples(value) for name, value in hdr.items()})
    return VideoIndex(**values)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
