"""Folders that a local glob would look into and may not: what lies there is not to be passed over."""

from __future__ import annotations

import errno
import os
import re

from fsspec.utils import glob_translate

#: Not allowed, or the disk does not answer. A folder that vanished, or a link in a circle, holds no video.
_SHUT = frozenset({errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE})


def unlistable_folders(root: str, pattern: str) -> list[str]:
    """Folders that cannot be listed, ``root`` or below it, sorted; ``pattern``: an absolute glob that begins
    with ``root``, its part before the first component with a glob letter."""
    parts = pattern[len(root) :].lstrip("/").split("/")[:-1]
    fixed = parts[: next((i for i, part in enumerate(parts) if "**" in part), len(parts))]
    errors: list[OSError] = []
    for folder, folders, _ in os.walk(root or "/", onerror=errors.append, followlinks=True):
        if len(fixed) == len(parts) and folder[len(root) :].count("/") >= len(parts):
            folders.clear()
    shut = {str(error.filename) for error in errors if error.errno in _SHUT}
    return sorted(folder for folder in shut if _is_looked_into(folder, root, fixed))


def _is_looked_into(folder: str, root: str, fixed: list[str]) -> bool:
    """Whether the components of ``folder`` below ``root`` match the first ones of the pattern."""
    below = [part for part in folder[len(root) :].split("/") if part]
    pairs = zip(below, fixed, strict=False)
    return all(re.match(glob_translate(part), name) for name, part in pairs)
