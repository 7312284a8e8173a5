"""Waits between tries: fully jittered, bounded, counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.retry import GaveUpError, Retry, RetryPolicy


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_waits_are_drawn_from_zero_to_an_exponential_bound() -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    retry = Retry(RetryPolicy(attempts=7, seconds=1e9, base=0.5, cap=6.0), clock=Clock(), uniform=uniform)
    waits = [retry.wait_after(OSError()) for _ in range(6)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 6.0, 6.0]
    assert [low for low, _ in asked] == [0.0] * 6


def test_the_last_failure_is_raised_with_its_count_and_cause() -> None:
    clock = Clock()
    retry = Retry(RetryPolicy(attempts=3), clock=clock)
    error = ConnectionResetError("by peer")
    for _ in range(2):
        retry.wait_after(error)
    clock.now += 7.0
    with pytest.raises(
        GaveUpError, match=r"ConnectionResetError: by peer \(given up after 3 tries in 7.0 s\)"
    ) as caught:
        retry.wait_after(error)
    assert (caught.value.attempts, caught.value.seconds) == (3, 7.0)
    assert caught.value.__cause__ is error


@given(
    st.integers(1, 50),
    st.floats(0.0, 100.0),
    st.floats(0.001, 5.0),
    st.floats(0.001, 30.0),
    st.floats(0.0, 1.0),
)
def test_all_tries_begin_within_the_time_allowed(
    attempts: int, seconds: float, base: float, cap: float, share: float
) -> None:
    clock = Clock()
    begun = clock.now
    retry = Retry(
        RetryPolicy(attempts, seconds, base, cap),
        clock=clock,
        uniform=lambda low, high: low + share * (high - low),
    )
    tries = 1
    while True:
        try:
            wait = retry.wait_after(OSError())
        except GaveUpError:
            break
        assert 0.0 <= wait <= cap
        clock.now += wait
        tries += 1
        assert clock.now - begun <= seconds + 1e-6
    assert tries <= attempts


def test_two_clients_do_not_wait_alike() -> None:
    def waits() -> list[float]:
        retry = Retry(RetryPolicy(attempts=9, seconds=1e9))
        return [retry.wait_after(OSError()) for _ in range(8)]

    assert waits() != waits()
