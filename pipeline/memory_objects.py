"""Objects in the memory of one process, on fsspec's memory file system: for tests and for trying out.

Nobody but this process sees them, so `Store.check` refuses such a root for a job.
"""

from __future__ import annotations

import hashlib
import threading
from typing import BinaryIO

from fsspec.implementations.memory import MemoryFileSystem

from pipeline.objects import Content, ObjectInfo, OnlyIf, opened

_lock = threading.RLock()


class MemoryObjects:
    """Objects that all instances of one process share, as fsspec's memory file system does."""

    def __init__(self) -> None:
        self._files = MemoryFileSystem()

    def stat(self, path: str) -> ObjectInfo:
        with _lock:
            if not self._files.isfile(path):
                raise FileNotFoundError(path)
            size = int(self._files.size(path))
            modified = self._files.modified(path).timestamp()
            # Replacing makes a new file object; its time alone could repeat within one tick of the clock.
            content = hashlib.sha256(self._files.cat_file(path)).hexdigest()
            return ObjectInfo(size, f"{modified!r}-{content}", modified)

    def fetch(self, path: str, sink: BinaryIO) -> None:
        with _lock:
            if not self._files.isfile(path):
                raise FileNotFoundError(path)
            data = self._files.cat_file(path)
        sink.write(data)

    def write(self, path: str, content: Content, only_if: OnlyIf | None) -> bool:
        with opened(content) as source:
            data = source.read()
        with _lock:
            if only_if is not None and not self._holds(path, only_if):
                return False
            self._files.pipe_file(path, data)
        return True

    def list(self, folder: str) -> list[str]:
        with _lock:
            return [str(path) for path in self._files.find(folder)]

    def delete(self, path: str) -> None:
        with _lock:
            self._files.rm_file(path)

    def discard_unfinished(self, folder: str) -> int:
        """Nothing: a write here is one step."""
        return 0

    def _holds(self, path: str, only_if: OnlyIf) -> bool:
        exists = self._files.isfile(path)
        if only_if.state == "absent":
            return not exists
        return exists and self.stat(path).version == only_if.version
