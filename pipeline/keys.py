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
#: Kinds that JSON says as they are.
_SAYABLE = {int, str, bool, type(None)}
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
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
    try:
        plain = _plain(obj)
    except _UnsayableError as error:
        raise error.told from None
    return _ENCODER.encode(plain).encode("ascii")


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


class _UnsayableError(Exception):
    """What JSON cannot say; each level it passes on its way up adds its place."""

    def __init__(self, kind: type[ValueError | TypeError], why: str) -> None:
        self.kind, self.why, self.where = kind, why, ""

    def inside(self, place: str) -> _UnsayableError:
        self.where = place + self.where
        return self

    @property
    def told(self) -> ValueError | TypeError:
        return self.kind(f"${self.where}: {self.why}")


def _plain(value: Any) -> Any:
    # Planning a catalog makes a key for every unit of it, so the common kinds come first, and places are
    # put together only when one is to be told.
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _UnsayableError(
                ValueError, f"{value} has no place in a key or a record; give a finite number"
            )
        return value + 0.0
    if isinstance(value, (list, tuple)):
        if _SAYABLE.issuperset(map(type, value)):
            return value
        return [_plain_item(item, i) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {name: _plain_field(name, item) for name, item in value.items()}
    if isinstance(value, Fraction):
        return {"denominator": value.denominator, "numerator": value.numerator}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: _plain_field(name, getattr(value, name)) for name in names}
    raise _UnsayableError(
        TypeError, f"{type(value).__name__} has no canonical JSON; pass text, numbers, lists, dicts"
    )


def _plain_item(item: Any, position: int) -> Any:
    try:
        return _plain(item)
    except _UnsayableError as error:
        raise error.inside(f"[{position}]") from None


def _plain_field(name: Any, item: Any) -> Any:
    if not isinstance(name, str):
        raise _UnsayableError(
            TypeError, f"the name {name!r} is {type(name).__name__}; names must be strings"
        )
    try:
        return _plain(item)
    except _UnsayableError as error:
        raise error.inside(f".{name}") from None
