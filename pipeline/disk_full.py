"""Telling a full disk from a bad video: an encoder that cannot write says so in its own words."""

from __future__ import annotations

import errno

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def disk_is_full(error: BaseException) -> bool:
    """Whether ``error``, or what it was raised from, says that a file cannot grow: the disk is full, a quota
    is used up, or a limit on the size of files is reached."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, OSError) and at.errno in _FULL:
            return True
        at = at.__cause__
    return False
