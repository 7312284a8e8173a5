"""Who did a unit of work and when, for the timeline of a run."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from typing import Any


def stamped(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The row that ``work`` makes, with ``actor`` (machine and process id) and when it ``begun`` and
    ``ended``, seconds of this machine's clock since 1970."""
    begun = time.time()
    row = work()
    return {**row, "actor": f"{platform.node()}/{os.getpid()}", "begun": begun, "ended": time.time()}
