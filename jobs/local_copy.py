"""Bringing a video of an output to this machine, for commands that look at it."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from pipeline.errors import SpecError
from pipeline.settings import StorageSettings


def local_copy(files: ExitStack, uri: str, storage: StorageSettings, max_bytes: int | None = None) -> str:
    """A local path with the bytes of ``uri``; a copy lives until ``files`` closes.

    Raises SpecError for one that would have to be copied and is larger than ``max_bytes``, StoreError.
    """
    from pipeline.filesystem import is_local, local_path, open_filesystem, typed_errors

    if is_local(uri):
        return local_path(uri)
    filesystem, path = open_filesystem(uri, storage)
    folder = files.enter_context(tempfile.TemporaryDirectory(prefix="reelweave-look-"))
    target = str(Path(folder) / "video")
    with typed_errors(uri, "read it"):
        size = int(filesystem.size(path) or 0)
        if max_bytes is not None and size > max_bytes:
            raise SpecError(f"{uri} is larger than {max_bytes >> 20} MiB", field="OUT")
        filesystem.get_file(path, target)
    return target
