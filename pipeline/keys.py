"""Content keys: SHA-256 of canonical JSON that names everything a result depends on."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import os
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

StrPath: TypeAlias = str | os.PathLike[str]

_READ_BYTES = 1 << 20
_PIXEL_CODE = (
    "operators/**/*.py",
    "pipeline/video/*.py",
    "pipeline/enhancer.py",
    "pipeline/enhancement/*.py",
    "pipeline/auto_degradation.py",
    "pipeline/mask_clips.py",
    "pipeline/windows.py",
    "pipeline/plan.py",
    "pipeline/knots.py",
    "pipeline/anchors.py",
)


def canonical_json(obj: Any) -> bytes:
    """One byte string per value: ASCII JSON, keys sorted, no spaces, shortest round-trip floats.

    Dataclasses become objects of their fields, tuples arrays, a Fraction
    ``{"denominator":d,"numerator":n}``, and -0.0 becomes 0.0.

    >>> canonical_json({"b": (1, 2.5), "a": Fraction(1, 25)})
    b'{"a":{"denominator":25,"numerator":1},"b":[1,2.5]}'

    Raises ValueError for NaN and infinities, TypeError for anything else JSON cannot say; both name
    the place inside ``obj``.
    """
    text = json.dumps(_plain(obj, "$"), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def digest(obj: Any) -> str:
    """SHA-256 hex digest of ``canonical_json(obj)``."""
    return hashlib.sha256(canonical_json(obj)).hexdigest()


def file_sha256(path: StrPath) -> str:
    """SHA-256 hex digest of a local file's bytes, read in pieces. Raises OSError."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_READ_BYTES):
            sha.update(piece)
    return sha.hexdigest()


@functools.cache
def code_digest() -> str:
    """Digest of the source files that affect pixels: two processes that agree run the same code."""
    root = Path(__file__).resolve().parent.parent
    files = {path for pattern in _PIXEL_CODE for path in root.glob(pattern)}
    return digest({path.relative_to(root).as_posix(): file_sha256(path) for path in files})


def object_path(key: str, suffix: str) -> str:
    """Where the chunk store keeps what ``key`` names, below the output root.

    >>> object_path("ab12", ".json")
    '.work/ab/ab12.json'
    """
    return f".work/{key[:2]}/{key}{suffix}"


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where}: {value} has no place in a key or a record; give a finite number")
        return value + 0.0
    if isinstance(value, Fraction):
        return {"denominator": value.denominator, "numerator": value.numerator}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise TypeError(f"{where}: the name {name!r} is {type(name).__name__}; names must be strings")
        return {name: _plain(item, f"{where}.{name}") for name, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: _plain(getattr(value, name), f"{where}.{name}") for name in names}
    raise TypeError(
        f"{where}: {type(value).__name__} has no canonical JSON; pass text, numbers, lists, dicts"
    )
