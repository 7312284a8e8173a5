"""What runs first: an interruption while everything else is being imported ends like any other one."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator

#: As `jobs.console.INTERRUPTED`, which is not there yet.
_INTERRUPTED = 130


@contextlib.contextmanager
def interrupted_quietly() -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM end the process with a sentence and exit code 130."""
    # A scheduler that ends us is like a person who does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("reelweave: interrupted\n")
        sys.exit(_INTERRUPTED)


def main() -> None:
    """Entry point of the console script."""
    with interrupted_quietly():
        from jobs.cli import main as run
    run()
