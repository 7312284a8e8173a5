"""Objects on a local or mounted disk.

A file gets its name by ``link`` (create) or ``rename`` (replace) once its bytes are on disk, so a reader
and a crashed machine see it whole or not at all. Replacing under a condition takes a lock on the root,
which the kernel releases when its holder dies.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from typing import BinaryIO

from pipeline.objects import Content, ObjectInfo, OnlyIf, opened

TEMPORARY_PREFIX = ".tmp-"
"""Files that begin so are writes in progress or locks; no listing shows them."""

_TEMPORARY_FOLDER = ".work/tmp"
_LOCK = f".work/{TEMPORARY_PREFIX}lock"
_READ_BYTES = 1 << 20


class LocalObjects:
    """Files below ``root``, an absolute path."""

    def __init__(self, root: str) -> None:
        self._root = root

    def stat(self, path: str) -> ObjectInfo:
        if not os.path.isfile(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        found = os.stat(path)
        version = f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"
        return ObjectInfo(found.st_size, version, found.st_mtime_ns / 1e9)

    def fetch(self, path: str, sink: BinaryIO) -> None:
        with open(path, "rb") as file:
            shutil.copyfileobj(file, sink, _READ_BYTES)

    def write(self, path: str, content: Content, only_if: OnlyIf | None) -> bool:
        with temporary_for(self._root, path) as temporary:
            with opened(content) as source:
                _write_synced(temporary, source)
            if only_if is None:
                os.replace(temporary, path)
            elif only_if.state == "absent":
                if not _link(temporary, path):
                    return False
            else:
                with self._locked():
                    if self._version(path) != only_if.version:
                        return False
                    os.replace(temporary, path)
        _sync_folder(path)
        return True

    def list(self, folder: str) -> list[str]:
        return [
            os.path.join(above, name)
            for above, _, names in os.walk(folder)
            for name in names
            if not name.startswith(TEMPORARY_PREFIX)
        ]

    def delete(self, path: str) -> None:
        os.unlink(path)

    def discard_unfinished(self, folder: str) -> int:
        parts = os.path.join(folder, _TEMPORARY_FOLDER)
        names = os.listdir(parts) if os.path.isdir(parts) else []
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(parts, name))
        return len(names)

    def _version(self, path: str) -> str:
        try:
            return self.stat(path).version
        except FileNotFoundError:
            return ""

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.path.join(self._root, _LOCK)
        os.makedirs(os.path.dirname(lock), exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def temporary_in(folder: str, prefix: str) -> Iterator[str]:
    """A fresh name in ``folder``, which is made; whatever is left there is removed."""
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f"{prefix}{uuid.uuid4().hex}")
    try:
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


@contextlib.contextmanager
def temporary_for(root: str, path: str) -> Iterator[str]:
    """A name on the file system of ``path``, whose folder is made: in ``.work/tmp``, where what a killed
    writer leaves is removed with the other work files, or beside ``path`` if that is another disk."""
    folder, shared = os.path.dirname(path), os.path.join(root, _TEMPORARY_FOLDER)
    for needed in (folder, shared):
        os.makedirs(needed, exist_ok=True)
    beside = os.stat(folder).st_dev != os.stat(shared).st_dev
    with temporary_in(folder if beside else shared, TEMPORARY_PREFIX if beside else "") as temporary:
        yield temporary


def _write_synced(path: str, source: BinaryIO) -> None:
    with open(path, "xb") as file:
        shutil.copyfileobj(source, file, _READ_BYTES)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(temporary: str, path: str) -> bool:
    try:
        os.link(temporary, path)
    except OSError as error:
        # link(2) over NFS may report failure although it took place; the link count knows.
        if os.stat(temporary).st_nlink != 2:
            if isinstance(error, FileExistsError):
                return False
            raise
    return True
