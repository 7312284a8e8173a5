"""Ending a run in good order: Ctrl-C (SIGINT), or SIGTERM from a scheduler.

    first signal      while units are at work: nothing new is begun, what is in flight is finished and
                      committed, for at most ``seconds``; at any other time the run ends at once
    second signal, or the time is over
                      what is in flight is abandoned: nothing of it is visible, a rerun does it again

Either way the run ends by KeyboardInterrupt, gives its lease back and can be resumed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from pipeline.attempts import drain
from pipeline.events import Event, OnEvent

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether the run is to end. `watch_signals` makes one that hears of signals."""

    def __init__(self, seconds: float, on_event: OnEvent) -> None:
        self.requested = False
        self._seconds = seconds
        self._on_event = on_event
        self._at_work = False
        self._asked, self._over = threading.Event(), threading.Event()

    def check(self) -> None:
        """Raises KeyboardInterrupt when the run is to end."""
        if self.requested:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def units_at_work(self) -> Iterator[None]:
        """Inside, the first signal lets what is in flight finish."""
        self._at_work = True
        try:
            yield
        finally:
            self._at_work = False

    def request(self, signum: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.requested or not self._at_work or self._seconds <= 0:
            self.requested = True
            raise KeyboardInterrupt
        self.requested = True
        # Ray is not asked from here: the interrupted thread may be in the middle of a call to it.
        self._asked.set()

    def attend(self, ledger: str) -> None:
        """Waits for a signal; the body of a thread."""
        self._asked.wait()
        if self._over.is_set():
            return
        message = (
            f"interrupted: what is in flight is finished, for at most {self._seconds:g} s; "
            "interrupt again to stop at once"
        )
        self._on_event(Event("log", message, 0, 0))
        with contextlib.suppress(Exception):
            # A cluster that does not answer has nothing in flight worth waiting for; the time limit holds.
            drain(ledger)
        if not self._over.wait(self._seconds):
            os.kill(os.getpid(), signal.SIGINT)

    def end(self) -> None:
        """Lets `attend` return."""
        self._over.set()
        self._asked.set()


@contextlib.contextmanager
def watch_signals(seconds: float, on_event: OnEvent, ledger: str) -> Iterator[Interruption]:
    """Take over SIGINT and SIGTERM for a run whose attempts are counted by ``ledger``.

    ``seconds``: how long what is in flight may take to finish; 0 abandons it. Where signals cannot be
    taken over (in a thread) the process's own handlers stay.
    """
    interruption = Interruption(seconds, on_event)
    before: list[tuple[int, Callable[[int, FrameType | None], object] | int | None]] = []
    if threading.current_thread() is threading.main_thread():
        before = [(number, signal.signal(number, interruption.request)) for number in _SIGNALS]
    attending = threading.Thread(target=interruption.attend, args=(ledger,), daemon=True)
    attending.start()
    try:
        yield interruption
    finally:
        interruption.end()
        for number, handler in before:
            signal.signal(number, handler)
