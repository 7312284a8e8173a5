"""The output root: named objects on a local disk or in S3, each written whole or not at all.

Two kinds of write, three outcomes each:

    put, put_file   replace: a reader sees the old object or the new one, never a part
    put_new         create: of any number of writers exactly one wins

    done | refused | unknown (the connection broke in between)

Unknown is resolved by asking the object who wrote it. A local file gets its name by ``link`` or
``replace`` once its bytes are on disk; an S3 object appears when its upload completes. Writing through
``fs.open(..., "wb")`` is avoided everywhere, since leaving that block by an exception commits a part.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TypeAlias

from pipeline.errors import SpecError, StoreError
from pipeline.filesystem import (
    BACKEND_ERRORS,
    ObjectMissingError,
    bucket_refusal,
    check_bucket,
    is_local,
    is_s3,
    local_path,
    open_filesystem,
    typed_errors,
)
from pipeline.settings import StorageSettings

TEMPORARY_PREFIX = ".tmp-"
"""Local files outside of ``.work`` that begin so are writes in progress; no listing shows them."""

Paths: TypeAlias = list[str]

_CREATE_ATTEMPTS = 4
_READ_BYTES = 1 << 20
_TEMPORARY_FOLDER = ".work/tmp"
_WRITER = "reelweave-writer"


class Store:
    """Objects below ``root`` (a local path, ``file://`` or ``s3://`` URL), named by relative paths.

    Pickles to its two arguments; usable from threads and from forked or spawned processes. Methods
    raise StoreError naming the object's URI when storage fails, ObjectMissingError (a StoreError)
    when a wanted object is absent, and SpecError for a path that would leave the root.
    """

    def __init__(self, root: str, storage: StorageSettings | None = None) -> None:
        self.storage = storage or StorageSettings()
        self.local = is_local(root)
        if not self.local and not is_s3(root):
            raise SpecError(
                f"output: {root!r} is neither a local path nor s3://; other storage is not known to create "
                f"objects exclusively, which resuming relies on",
                field="output",
            )
        if not self.local and not root.partition("://")[2].strip("/"):
            raise SpecError(f"output: {root!r} names no bucket; write s3://bucket/folder/", field="output")
        self.root = local_path(root) if self.local else root.rstrip("/")

    def __getstate__(self) -> tuple[str, StorageSettings]:
        return self.root, self.storage

    def __setstate__(self, state: tuple[str, StorageSettings]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"Store({self.root!r})"

    def uri(self, rel: str) -> str:
        """Absolute path or URL of ``rel``."""
        return f"{self.root}/{checked_relative(rel)}"

    def exists(self, rel: str) -> bool:
        """Whether an object (not a folder) of that name is there."""
        return self.stat_size(rel) is not None

    def stat_size(self, rel: str) -> int | None:
        """Size in bytes, or None when the object is absent."""
        try:
            return self.size(rel)
        except ObjectMissingError:
            return None

    def size(self, rel: str) -> int:
        """Size in bytes."""
        with self._on(rel, "look at it") as (fs, path):
            info = fs.info(path)
            if info["type"] != "file":
                raise FileNotFoundError(path)
            return int(info["size"])

    def read(self, rel: str) -> bytes:
        """All bytes of an object."""
        with self._on(rel, "read it") as (fs, path):
            return bytes(fs.cat_file(path))

    def sha256(self, rel: str) -> str:
        """SHA-256 hex digest of an object's bytes, streamed."""
        sha = hashlib.sha256()
        with self._on(rel, "read it") as (fs, path), fs.open(path, "rb") as file:
            while piece := file.read(_READ_BYTES):
                sha.update(piece)
        return sha.hexdigest()

    def get_file(self, rel: str, local_path: str | os.PathLike[str]) -> None:
        """Downloads to ``local_path``, which is replaced when complete and left alone otherwise."""
        target = os.path.abspath(local_path)
        with (
            self._on(rel, f"copy it to {target}") as (fs, path),
            _temporary_in(os.path.dirname(target), TEMPORARY_PREFIX) as temporary,
        ):
            if self.local:
                shutil.copyfile(path, temporary)
            else:
                fs.get_file(path, temporary)
            os.replace(temporary, target)

    def put(self, rel: str, data: bytes) -> None:
        """Creates or replaces an object."""
        with self._on(rel, "write it") as (fs, path):
            if self.local:
                _replace_local(self.root, path, lambda file: file.write(data))
            else:
                fs.pipe_file(path, data)

    def put_file(self, rel: str, local_path: str | os.PathLike[str]) -> None:
        """Creates or replaces an object with a local file's content, streamed."""
        local = os.fspath(local_path)
        with (
            typed_errors(local, "read it"),
            open(local, "rb") as source,
            self._on(rel, f"write it from {local}") as (fs, path),
        ):
            if self.local:
                _replace_local(self.root, path, lambda file: shutil.copyfileobj(source, file, _READ_BYTES))
            else:
                fs.put_file(local, path)

    def put_new(self, rel: str, data: bytes) -> bool:
        """Creates an object; False when one of that name already existed. One of many writers wins."""
        with self._on(rel, "create it") as (fs, path):
            return (
                _create_local(self.root, path, data)
                if self.local
                else _create_s3(fs, path, data, self.uri(rel))
            )

    def list(self, prefix: str) -> Paths:
        """Relative paths of all objects below the folder ``prefix`` (``""``: the root), sorted."""
        folder = f"{self._root_path}/{checked_relative(prefix)}" if prefix else self._root_path
        fs, _ = open_filesystem(self.root, self.storage)
        with typed_errors(f"{self.root}/{prefix}", "list it"):
            found = fs.find(folder)
        relative = (
            str(name)[len(self._root_path) :].lstrip("/") for name in found if not str(name).endswith("/")
        )
        return sorted(r for r in relative if not r.rpartition("/")[2].startswith(TEMPORARY_PREFIX))

    def delete(self, rel: str) -> None:
        """Removes an object; one that is not there is fine."""
        with contextlib.suppress(ObjectMissingError), self._on(rel, "delete it") as (fs, path):
            if self.local:
                os.unlink(path)
            else:
                fs.rm_file(path)

    def check(self, write: bool = True) -> None:
        """Proves within about ten seconds that the root can be used; call it before any work.

        With ``write`` a probe object is created, created again (which must be refused) and deleted;
        without, nothing is written. Raises SpecError naming ``output`` or ``storage.endpoint_url``.
        """
        if self.local:
            _check_directory(self.root)
        else:
            check_bucket(self.root, self.storage, "output")
        if not write:
            return
        probe = f".work/probe-{uuid.uuid4().hex}"
        try:
            exclusive = self.put_new(probe, b"1") and not self.put_new(probe, b"2")
            self.delete(probe)
        except StoreError as error:
            raise self._refused_write(error) from error
        if not exclusive:
            raise SpecError(
                f"{self.root}: this storage overwrites objects that should be created once (If-None-Match is "
                f"ignored); use a newer S3 service or a local path",
                field="output",
            )

    def _refused_write(self, error: StoreError) -> SpecError:
        cause = error.__cause__ or error
        if self.local:
            return SpecError(f"{error}; make the folder writable or choose another output", field="output")
        return bucket_refusal(cause, self.root, self.storage, "output")

    @contextlib.contextmanager
    def _on(self, rel: str, action: str) -> Iterator[tuple[Any, str]]:
        uri = self.uri(rel)
        fs, _ = open_filesystem(self.root, self.storage)
        with typed_errors(uri, action):
            yield fs, f"{self._root_path}/{rel}"

    @property
    def _root_path(self) -> str:
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


@contextlib.contextmanager
def _temporary_in(folder: str, prefix: str) -> Iterator[str]:
    """A fresh name in ``folder``, which is made; whatever is left there is removed."""
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f"{prefix}{uuid.uuid4().hex}")
    try:
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


@contextlib.contextmanager
def _temporary_for(root: str, path: str) -> Iterator[str]:
    """A name on the file system of ``path``, whose folder is made: in ``.work/tmp``, where what a killed
    writer leaves is removed with the other work files, or beside ``path`` if that is another disk."""
    folder, shared = os.path.dirname(path), os.path.join(root, _TEMPORARY_FOLDER)
    for needed in (folder, shared):
        os.makedirs(needed, exist_ok=True)
    beside = os.stat(folder).st_dev != os.stat(shared).st_dev
    with _temporary_in(folder if beside else shared, TEMPORARY_PREFIX if beside else "") as temporary:
        yield temporary


def _write_synced(path: str, write: Callable[[BinaryIO], object]) -> None:
    with open(path, "xb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace_local(root: str, path: str, write: Callable[[BinaryIO], object]) -> None:
    with _temporary_for(root, path) as temporary:
        _write_synced(temporary, write)
        os.replace(temporary, path)
    _sync_folder(path)


def _create_local(root: str, path: str, data: bytes) -> bool:
    with _temporary_for(root, path) as temporary:
        _write_synced(temporary, lambda file: file.write(data))
        try:
            os.link(temporary, path)
        except OSError as error:
            # link(2) over NFS may report failure although it took place; the link count knows.
            if os.stat(temporary).st_nlink != 2:
                if isinstance(error, FileExistsError):
                    return False
                raise
    _sync_folder(path)
    return True


def _create_s3(fs: Any, path: str, data: bytes, uri: str) -> bool:
    """Conditional PUT. Clients below retry a broken connection by themselves, so even "it exists" may
    be an answer to our own second try: the writer's token in the object's metadata settles it."""
    token = uuid.uuid4().hex
    for attempt in range(_CREATE_ATTEMPTS):
        try:
            fs.pipe_file(path, data, mode="create", Metadata={_WRITER: token})
            return True
        except PermissionError:
            raise
        except BACKEND_ERRORS as error:
            try:
                owner = fs.metadata(path).get(_WRITER, "")
            except FileNotFoundError:
                # Nothing there: 409 (a rival's upload was in progress) or a lost request. Try again.
                if attempt + 1 == _CREATE_ATTEMPTS or isinstance(error, FileNotFoundError):
                    raise error from None
            else:
                return bool(owner == token)
    raise StoreError(f"{uri}: could not be created in {_CREATE_ATTEMPTS} attempts", uri=uri)


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
