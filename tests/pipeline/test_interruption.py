"""What signals do to a run."""

from __future__ import annotations

import signal
import threading

import pytest

from pipeline import interruption
from pipeline.events import Event
from pipeline.interruption import Interruption, watch_signals


@pytest.fixture
def drained(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when the workers are told to begin nothing new."""
    told = threading.Event()
    monkeypatch.setattr(interruption, "drain", lambda ledger: told.set())
    return told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_units_are_at_work_lets_them_finish_and_a_second_one_does_not(
    drained: threading.Event, number: signal.Signals
) -> None:
    events: list[Event] = []
    with watch_signals(60.0, events.append, "ledger") as watched:
        with watched.units_at_work():
            signal.raise_signal(number)
            assert watched.requested
            assert drained.wait(10.0)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            watched.check()
    assert "at most 60 s" in events[0].message


def test_a_signal_at_any_other_time_ends_the_run_at_once(drained: threading.Event) -> None:
    with watch_signals(60.0, lambda event: None, "ledger"), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert not drained.is_set()


def test_units_that_do_not_finish_in_time_are_abandoned(drained: threading.Event) -> None:
    with watch_signals(0.2, lambda event: None, "ledger") as watched, watched.units_at_work():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            threading.Event().wait(30.0)
    assert drained.is_set()


def test_without_a_time_to_finish_units_are_abandoned_at_once() -> None:
    watched = Interruption(0.0, lambda event: None)
    with watched.units_at_work(), pytest.raises(KeyboardInterrupt):
        watched.request(signal.SIGINT, None)


def test_handlers_are_given_back_and_left_alone_in_a_thread() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with watch_signals(1.0, lambda event: None, "ledger"):
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

    def elsewhere() -> None:
        with watch_signals(1.0, lambda event: None, "ledger"):
            seen.append(signal.getsignal(signal.SIGTERM))

    seen: list[object] = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before[1]]
