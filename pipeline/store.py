"""The output root: named objects on a local disk, in S3 or in memory, each written whole or not at all.

    put, put_file       replace: a reader sees the old object or the new one, never a part
    put_new             create: of any number of writers exactly one wins
    replace_file        replace if nobody else did since: of writers that saw one version, one wins

Each write has three outcomes:

    committed           the object holds the bytes
    refused             a condition did not hold; nothing was written
    unknown             the connection broke in between, or the answer was lost

Unknown never leaves this layer: the object is asked who wrote it (`pipeline.s3_objects`), and where it
cannot be asked a StoreError says so. After a StoreError the object is the old one or the new one, whole;
callers go by what they read back. Failures that pass are tried again with full jitter for a bounded time
(`pipeline.retry`). Writing through ``fs.open(..., "wb")`` is avoided everywhere, since leaving that block
by an exception commits a part.

Names below ``.work`` and ``manifests`` begin with a piece of a hash, which spreads them over the
partitions of an S3 bucket.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import tempfile
import uuid
from collections.abc import Iterator
from typing import BinaryIO, TypeAlias

from pipeline.errors import SpecError, StoreError
from pipeline.filesystem import (
    ObjectMissingError,
    bucket_refusal,
    check_bucket,
    is_local,
    is_memory,
    is_s3,
    local_path,
    typed_errors,
)
from pipeline.local_objects import TEMPORARY_PREFIX, LocalObjects, temporary_in
from pipeline.memory_objects import MemoryObjects
from pipeline.metrics import count_read, count_written
from pipeline.objects import ABSENT, Content, ObjectInfo, Objects, OnlyIf, size_of, stream_sha256
from pipeline.retry import DEFAULT, RetryPolicy
from pipeline.s3_objects import S3Objects
from pipeline.settings import StorageSettings

Paths: TypeAlias = list[str]

_IN_MEMORY_BYTES = 8 << 20


class Store:
    """Objects below ``root`` (a local path, ``file://``, ``s3://`` or ``memory://`` URL), named by
    relative paths.

    Pickles to its arguments; usable from threads and from forked or spawned processes. Methods raise
    StoreError naming the object's URI and the operation when storage fails, ObjectMissingError (a
    StoreError) when a wanted object is absent, and SpecError for a path that would leave the root.
    """

    def __init__(
        self, root: str, storage: StorageSettings | None = None, retry: RetryPolicy = DEFAULT
    ) -> None:
        self.storage = storage or StorageSettings()
        self.retry = retry
        self.local = is_local(root)
        if not self.local and not is_s3(root) and not is_memory(root):
            raise SpecError(
                f"output: {root!r} is neither a local path nor s3://; other storage is not known to create "
                f"objects exclusively, which resuming relies on",
                field="output",
            )
        if not self.local and not root.partition("://")[2].strip("/"):
            raise SpecError(f"output: {root!r} names no bucket; write s3://bucket/folder/", field="output")
        self.root = local_path(root) if self.local else root.rstrip("/")

    def __getstate__(self) -> tuple[str, StorageSettings, RetryPolicy]:
        return self.root, self.storage, self.retry

    def __setstate__(self, state: tuple[str, StorageSettings, RetryPolicy]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"Store({self.root!r})"

    def uri(self, rel: str) -> str:
        """Absolute path or URL of ``rel``."""
        return f"{self.root}/{checked_relative(rel)}"

    def exists(self, rel: str) -> bool:
        """Whether an object (not a folder) of that name is there."""
        return self.stat(rel) is not None

    def stat(self, rel: str) -> ObjectInfo | None:
        """Size, version and time of an object, or None when it is absent."""
        # Absence is an ordinary answer here: no error is made of it, which for a catalog would be millions.
        with self._on(rel, "look at it") as path:
            try:
                return self._objects.stat(path)
            except FileNotFoundError:
                return None

    def stat_size(self, rel: str) -> int | None:
        """Size in bytes, or None when the object is absent."""
        found = self.stat(rel)
        return None if found is None else found.size

    def size(self, rel: str) -> int:
        """Size in bytes."""
        with self._on(rel, "look at it") as path:
            return self._objects.stat(path).size

    def read(self, rel: str) -> bytes:
        """All bytes of an object."""
        sink = io.BytesIO()
        with self._on(rel, "read it") as path:
            self._fetch(path, sink)
        return sink.getvalue()

    def find(self, rel: str) -> bytes | None:
        """All bytes of an object, or None when it is absent."""
        sink = io.BytesIO()
        with self._on(rel, "read it") as path:
            try:
                self._fetch(path, sink)
            except FileNotFoundError:
                return None
        return sink.getvalue()

    def sha256(self, rel: str) -> str:
        """SHA-256 hex digest of an object's bytes, which are downloaded for it."""
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as sink:
            with self._on(rel, "read it") as path:
                self._fetch(path, sink)  # type: ignore[arg-type]
            return stream_sha256(sink)  # type: ignore[arg-type]

    def get_file(self, rel: str, local_path: str | os.PathLike[str]) -> None:
        """Downloads to ``local_path``, which is replaced when complete and left alone otherwise."""
        target = os.path.abspath(local_path)
        with (
            self._on(rel, f"copy it to {target}") as path,
            temporary_in(os.path.dirname(target), TEMPORARY_PREFIX) as temporary,
        ):
            with open(temporary, "xb") as sink:
                self._fetch(path, sink)
            os.replace(temporary, target)

    def put(self, rel: str, data: bytes) -> None:
        """Creates or replaces an object."""
        with self._on(rel, "write it") as path:
            self._write(path, data, None)

    def put_file(self, rel: str, local_path: str | os.PathLike[str]) -> None:
        """Creates or replaces an object with a local file's content, streamed."""
        self._send_file(rel, local_path, None)

    def put_new(self, rel: str, data: bytes) -> bool:
        """Creates an object; False when one of that name already existed. One of many writers wins."""
        with self._on(rel, "create it") as path:
            return self._write(path, data, ABSENT)

    def replace_file(self, rel: str, local_path: str | os.PathLike[str], seen: ObjectInfo | None) -> bool:
        """Like `put_file`, if the object is still as ``stat`` ``seen`` it (None: absent); else False.

        The storage judges this when the new object would appear, so a writer that was stopped for any
        length of time cannot overwrite what others have written meanwhile.
        """
        return self._send_file(rel, local_path, OnlyIf("version", seen.version) if seen else ABSENT)

    def list(self, prefix: str) -> Paths:
        """Relative paths of all objects below the folder ``prefix`` (``""``: the root), sorted."""
        folder = f"{self._root_path}/{checked_relative(prefix)}" if prefix else self._root_path
        with typed_errors(f"{self.root}/{prefix}", "list it"):
            found = self._objects.list(folder)
        relative = (name[len(self._root_path) :].lstrip("/") for name in found)
        return sorted(r for r in relative if not r.rpartition("/")[2].startswith(TEMPORARY_PREFIX))

    def delete(self, rel: str) -> None:
        """Removes an object; one that is not there is fine."""
        with contextlib.suppress(ObjectMissingError), self._on(rel, "delete it") as path:
            self._objects.delete(path)

    def discard_unfinished(self) -> int:
        """Removes what writers that died have left half-written, and returns how much it was.

        Only for who holds the lease of the root: it would end the writes of others too.
        """
        with typed_errors(self.root, "discard unfinished writes"):
            return self._objects.discard_unfinished(self._root_path)

    def check(self, write: bool = True) -> None:
        """Proves within about ten seconds that the root can be used; call it before any work.

        With ``write`` a probe object is created, created and replaced under conditions that do not hold
        (both must be refused) and deleted; without, nothing is written. Raises SpecError naming
        ``output`` or ``storage.endpoint_url``.
        """
        if is_memory(self.root):
            raise SpecError(
                f"output: {self.root} lives in the memory of one process, and a job has many; choose a local "
                f"path or s3://",
                field="output",
            )
        if self.local:
            _check_directory(self.root)
        else:
            check_bucket(self.root, self.storage, "output")
        if not write:
            return
        try:
            missing = self._missing_condition(f".work/probe-{uuid.uuid4().hex}")
        except StoreError as error:
            raise self._refused_write(error) from error
        if missing:
            raise SpecError(
                f"{self.root}: this storage overwrites objects that should be written under a condition "
                f"({missing} is ignored); use a newer S3 service or a local path",
                field="output",
            )

    def _missing_condition(self, probe: str) -> str:
        """The header of a conditional write that the storage does not heed, or ""."""
        try:
            if not self.put_new(probe, b"1") or self.put_new(probe, b"2"):
                return "If-None-Match"
            seen = self.stat(probe)
            self.put(probe, b"3")
            stale = OnlyIf("version", seen.version if seen else "")
            with self._on(probe, "replace it") as path:
                return "If-Match" if self._write(path, b"4", stale) else ""
        finally:
            self.delete(probe)

    def _refused_write(self, error: StoreError) -> SpecError:
        cause = error.__cause__ or error
        if self.local:
            return SpecError(f"{error}; make the folder writable or choose another output", field="output")
        return bucket_refusal(cause, self.root, self.storage, "output")

    def _send_file(self, rel: str, local_path: str | os.PathLike[str], only_if: OnlyIf | None) -> bool:
        local = os.fspath(local_path)
        with typed_errors(local, "read it"), open(local, "rb"):
            pass
        with self._on(rel, f"write it from {local}") as path:
            return self._write(path, local, only_if)

    def _fetch(self, path: str, sink: BinaryIO) -> None:
        self._objects.fetch(path, sink)
        count_read("output", sink.tell())

    def _write(self, path: str, content: Content, only_if: OnlyIf | None) -> bool:
        written = self._objects.write(path, content, only_if)
        count_written("output", size_of(content) if written else 0)
        return written

    @contextlib.contextmanager
    def _on(self, rel: str, action: str) -> Iterator[str]:
        with typed_errors(self.uri(rel), action):
            yield f"{self._root_path}/{rel}"

    @functools.cached_property
    def _objects(self) -> Objects:
        if self.local:
            return LocalObjects(self.root)
        if is_memory(self.root):
            return MemoryObjects()
        return S3Objects(self.root, self.storage, self.retry)

    @property
    def _root_path(self) -> str:
        if is_memory(self.root):
            return "/" + self.root.partition("://")[2].lstrip("/")
        return self.root if self.local else self.root.partition("://")[2]


def checked_relative(rel: str) -> str:
    """``rel`` itself, once it is sure to stay below a root. Raises SpecError."""
    if not rel or "\0" in rel or any(part in ("", ".", "..") for part in rel.split("/")):
        raise SpecError(
            f"{rel!r} is no path below the output folder; it must be relative and without empty, '.' or "
            f"'..' parts",
            field="output",
            path=rel,
        )
    return rel


def _check_directory(root: str) -> None:
    """The nearest existing ancestor must be a folder this user may write to."""
    existing = root
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing):
        raise SpecError(f"{root}: {existing} is a file; choose another output folder", field="output")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise SpecError(
            f"{root}: {existing} is not writable for this user; change its rights or choose another output",
            field="output",
        )
