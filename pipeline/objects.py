"""What a kind of storage has to offer to be an output root: whole objects, two conditions, one clock."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal, Protocol, TypeAlias

_READ_BYTES = 1 << 20

Content: TypeAlias = bytes | str
"""What to write: bytes, or the path of a local file."""


@dataclass(frozen=True)
class ObjectInfo:
    """Facts about an object: ``size`` in bytes; ``version``, which differs whenever other bytes were
    written (on S3 equal bytes may share one: it is the ETag); ``modified``, when that was, in seconds
    since 1970 by the storage's own clock (S3: whole seconds)."""

    size: int
    version: str
    modified: float


@dataclass(frozen=True)
class OnlyIf:
    """A condition of a write, judged by the storage in the moment the object would appear: it is
    ``absent``, or still in ``version``."""

    state: Literal["absent", "version"]
    version: str = ""


ABSENT = OnlyIf("absent")


class Objects(Protocol):
    """A backend. Paths are absolute inside it; errors are those of `pipeline.filesystem.BACKEND_ERRORS`.

    An object appears whole or not at all, and is replaced in one step.
    """

    def stat(self, path: str) -> ObjectInfo:
        """Raises FileNotFoundError when there is no object (a folder is none)."""

    def fetch(self, path: str, sink: BinaryIO) -> None:
        """Writes all bytes to ``sink``, from its beginning, and proves that none is missing."""

    def write(self, path: str, content: Content, only_if: OnlyIf | None) -> bool:
        """Creates or replaces an object; False when the condition did not hold and nothing was written."""

    def list(self, folder: str) -> list[str]:
        """Paths of all objects below a folder, in any order."""

    def delete(self, path: str) -> None:
        """Removes an object. Raises FileNotFoundError or says nothing when there is none."""

    def discard_unfinished(self, folder: str) -> int:
        """Removes what writers that died have left half-written below ``folder``; returns how much."""


def size_of(content: Content) -> int:
    """Bytes of what is to be written."""
    return len(content) if isinstance(content, bytes) else os.path.getsize(content)


@contextlib.contextmanager
def opened(content: Content) -> Iterator[BinaryIO]:
    """What is to be written as a stream of bytes."""
    if isinstance(content, bytes):
        yield io.BytesIO(content)
        return
    with open(content, "rb") as file:
        yield file


def stream_sha256(source: BinaryIO) -> str:
    """SHA-256 hex digest of a stream, read from its beginning and rewound."""
    sha = hashlib.sha256()
    source.seek(0)
    while piece := source.read(_READ_BYTES):
        sha.update(piece)
    source.seek(0)
    return sha.hexdigest()
