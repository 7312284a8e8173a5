"""What every command shares: exit codes, errors as one line, and a stdout that holds only the result."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

import typer

from pipeline.errors import ReelweaveError, SpecError
from pipeline.redact import redacted
from pipeline.run_ending import EXIT_CODES

DONE, FAILED, BAD_INPUT = EXIT_CODES["done"], EXIT_CODES["failed"], EXIT_CODES["refused"]
QUARANTINED, INTERRUPTED = EXIT_CODES["quarantined"], EXIT_CODES["interrupted"]
_P = ParamSpec("_P")


def guarded(command: Callable[_P, int]) -> Callable[_P, None]:
    """Make a function that returns an exit code into a command that never ends in a traceback.

    With REELWEAVE_DEBUG=1 in the environment the traceback is printed as well.
    """

    @functools.wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            code = command(*args, **kwargs)
        except typer.Exit:
            raise
        except (KeyboardInterrupt, typer.Abort):
            code = _complain("interrupted; run the same command again to resume", INTERRUPTED)
        except BrokenPipeError:
            # The reader of our output has left; nothing more can be said to it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = FAILED
        except Exception as raised:
            error = _inner(raised)
            text = str(error)
            if not isinstance(error, ReelweaveError):
                first = (text.splitlines() or [""])[0]
                text = f"unexpected {type(error).__name__}: {first}; set REELWEAVE_DEBUG=1 for the traceback"
            code = _complain(text, BAD_INPUT if isinstance(error, SpecError) else FAILED)
        raise typer.Exit(code)

    return run


def say(line: str) -> None:
    """A line for the person watching, on stderr, without credentials."""
    print(redacted(line), file=sys.stderr, flush=True)


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on stdout; NaN and infinities have no place in JSON and are refused."""
    print(json.dumps(value, allow_nan=False))


@contextlib.contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send whatever libraries and child processes write to stdout to stderr instead."""
    sys.stdout.flush()
    with contextlib.ExitStack() as undo:
        with contextlib.suppress(OSError, ValueError):
            descriptor = sys.__stdout__.fileno() if sys.__stdout__ else 1
            saved = os.dup(descriptor)
            undo.callback(os.close, saved)
            os.dup2(2, descriptor)
            undo.callback(os.dup2, saved, descriptor)
        undo.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield
        sys.stdout.flush()


@contextlib.contextmanager
def termination_interrupts() -> Iterator[None]:
    """Let SIGTERM, a scheduler's way to end a process, raise KeyboardInterrupt as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _inner(error: BaseException) -> BaseException:
    """What a worker raised, where Ray hands it over inside an error of its own with a long text."""
    while type(error).__module__.partition(".")[0] == "ray":
        inner = getattr(error, "cause", None) or error.__cause__
        if not isinstance(inner, BaseException):
            break
        error = inner
    return error


def _complain(text: str, code: int) -> int:
    if os.environ.get("REELWEAVE_DEBUG") == "1":
        say(traceback.format_exc())
    say(f"reelweave: {text}")
    return code
