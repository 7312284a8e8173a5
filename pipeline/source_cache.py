"""Source videos as local files: those on disk in place, remote ones downloaded once per node.

    <directory>/<sha256(uri)>-<content digest><ext>   a whole download; the name says what is in it
    <directory>/<sha256(uri)>.json                    version last seen under this URI, and its digest
    <directory>/<sha256(uri)>.lock                    held while one process of the node downloads

A digest is taken once per version of a file (size, times, inode; or size and ETag) and remembered on
disk, so that neither every chunk nor every process reads a long video again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.errors import SourceError, StoreError
from pipeline.filesystem import BACKEND_ERRORS, brief, is_local, is_s3, local_path, open_filesystem
from pipeline.keys import canonical_json, digest, file_sha256
from pipeline.metrics import count_read
from pipeline.retry import DEFAULT, Retry, RetryPolicy
from pipeline.s3_objects import S3Objects
from pipeline.s3_requests import wait_or_raise
from pipeline.settings import StorageSettings

_PLAIN_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,8}")


def node_cache(storage: StorageSettings) -> SourceCache:
    """The cache that all processes of this node and user share."""
    return SourceCache(os.path.join(tempfile.gettempdir(), f"reelweave-{os.getuid()}", "sources"), storage)


@dataclass(frozen=True)
class SourceCache:
    """Local copies of source videos below ``directory``, shared by the processes of one node.

    Methods raise SourceError: ``missing`` (no such file), ``unreadable`` (no right to read it, or no
    file at all), ``source_changed``; and StoreError when the network or the local disk fails.
    """

    directory: str
    storage: StorageSettings
    retry: RetryPolicy = DEFAULT

    def local_path(self, uri: str) -> tuple[str, str]:
        """A local file with the content of ``uri`` as it is now, and its SHA-256 hex digest."""
        if is_local(uri):
            path = local_path(uri)
            return path, self._local_digest(uri, path)
        return self._download(uri)

    def version(self, uri: str) -> str:
        """What storage says of ``uri`` without reading it, as a digest: another one after any change. On the
        local disk also on another machine; "" where storage tells neither time nor ETag."""
        if is_local(uri):
            return digest(self._local_version(uri))
        version, _ = self._remote_version(uri)
        return digest(version) if any(version[1:]) else ""

    def open_verified(self, uri: str, digest: str) -> str:
        """A local file with the content of ``uri`` whose SHA-256 is ``digest``.

        Raises SourceError(``source_changed``) when the source holds other bytes by now.
        """
        if not is_local(uri):
            cached = self._cached_path(uri, digest)
            if os.path.exists(cached):
                return cached
        path, found = self.local_path(uri)
        if found != digest:
            raise SourceError(
                f"{uri}: changed during the job (content {found[:12]}, planned {digest[:12]}); "
                f"run the job again",
                code="source_changed",
                uri=uri,
                found=found,
                expected=digest,
            )
        return path

    def evict(self, uri: str, digest: str) -> None:
        """Removes the downloaded copy, if there is one; a source on the local disk is never touched."""
        if not is_local(uri):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._cached_path(uri, digest))

    def _local_digest(self, uri: str, path: str) -> str:
        version = self._local_version(uri)
        with _source_errors(uri, self.storage):
            with open(path, "rb"):
                known = self._recall(uri, version)
            if known is not None:
                return known
            found = file_sha256(path)
        self._remember(uri, version, found)
        return found

    def _local_version(self, uri: str) -> list[Any]:
        path = local_path(uri)
        with _source_errors(uri, self.storage):
            stat = os.stat(path)
            if os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK):
                raise PermissionError("videos in this folder cannot be listed")
            if not os.path.isfile(path):
                raise IsADirectoryError(path)
        return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]

    def _remote_version(self, uri: str) -> tuple[list[Any], int | None]:
        """The version, and the size in bytes where storage tells it."""
        with _source_errors(uri, self.storage):
            fs, remote = open_filesystem(uri, self.storage)
            info = fs.info(remote)
            if info["type"] != "file":
                raise IsADirectoryError(uri)
        size = info.get("size")
        return [size, str(info.get("ETag", "")), str(info.get("LastModified", ""))], size

    def _download(self, uri: str) -> tuple[str, str]:
        version, size = self._remote_version(uri)
        fs, remote = open_filesystem(uri, self.storage)
        with self._locked(uri):
            known = self._recall(uri, version)
            if known is not None and os.path.exists(self._cached_path(uri, known)):
                return self._cached_path(uri, known), known
            found = self._fetch(uri, fs, remote, size)
            self._remember(uri, version, found)
        return self._cached_path(uri, found), found

    def _fetch(self, uri: str, fs: Any, remote: str, size: int | None) -> str:
        temporary = self._file(uri, f".{uuid.uuid4().hex}.tmp")
        try:
            with _source_errors(uri, self.storage):
                self._copy(uri, fs, remote, temporary)
            with self._disk_errors():
                received = os.path.getsize(temporary)
                count_read("source", received)
                if size is not None and received != size:
                    raise StoreError(
                        f"{uri}: received {received} bytes of {size}; run the job again", uri=uri
                    )
                found = file_sha256(temporary)
                os.replace(temporary, self._cached_path(uri, found))
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        return found

    def _copy(self, uri: str, fs: Any, remote: str, target: str) -> None:
        """One remote file to the local disk; failures of the passing kind are waited out."""
        if is_s3(uri):
            with open(target, "wb") as sink:
                S3Objects(uri, self.storage, self.retry).fetch(remote, sink)
            return
        tries = Retry(self.retry)
        while True:
            try:
                fs.get_file(remote, target)
                return
            except BACKEND_ERRORS as error:
                time.sleep(wait_or_raise(tries, error))

    def _cached_path(self, uri: str, digest: str) -> str:
        # Some raw formats are recognised by their extension, so a copy keeps it.
        extension = os.path.splitext(uri)[1]
        return self._file(uri, f"-{digest}{extension if _PLAIN_EXTENSION.fullmatch(extension) else ''}")

    def _file(self, uri: str, ending: str) -> str:
        name = hashlib.sha256(uri.encode("utf-8", "surrogateescape")).hexdigest()
        return os.path.join(self.directory, name + ending)

    def _recall(self, uri: str, version: list[Any]) -> str | None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            with open(self._file(uri, ".json"), "rb") as file:
                record = json.load(file)
            if record["version"] == digest(version):
                return str(record["digest"])
        return None

    def _remember(self, uri: str, version: list[Any], found: str) -> None:
        target = self._file(uri, ".json")
        temporary = f"{target}.{uuid.uuid4().hex}.tmp"
        with self._disk_errors():
            os.makedirs(self.directory, exist_ok=True)
            with open(temporary, "wb") as file:
                file.write(canonical_json({"version": digest(version), "digest": found}))
            os.replace(temporary, target)

    @contextlib.contextmanager
    def _locked(self, uri: str) -> Iterator[None]:
        with self._disk_errors():
            os.makedirs(self.directory, exist_ok=True)
            descriptor = os.open(self._file(uri, ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{self.directory}: source cache cannot be written ({brief(error)}); free space there or "
                f"choose another folder",
                uri=self.directory,
            ) from error


@contextlib.contextmanager
def _source_errors(uri: str, storage: StorageSettings) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise SourceError(
            f"{uri}: does not exist; restore it or take it off the list", code="missing", uri=uri
        ) from error
    except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise SourceError(
            f"{uri}: cannot be read ({brief(error)}); check the rights and that it is a file",
            code="unreadable",
            uri=uri,
        ) from error
    except BACKEND_ERRORS as error:
        raise StoreError(
            f"{uri}: cannot be read ({brief(error)}); run the job again to resume", uri=uri
        ) from error
