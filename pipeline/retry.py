"""Trying again after failures that pass: exponential backoff with full jitter, bounded in time.

Before the n-th repetition a client waits a uniformly random time between nothing and ``base * 2**(n-1)``
(never more than ``cap``): clients that failed together do not come back together. After M. Brooker,
"Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("full jitter").
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class RetryPolicy:
    """At most ``attempts`` tries within about ``seconds``; ``base`` and ``cap`` bound single waits, in
    seconds. The last try may begin right before the time is up, so a caller adds one request's timeout."""

    attempts: int = 10
    seconds: float = 90.0
    base: float = 0.1
    cap: float = 10.0


DEFAULT = RetryPolicy()


class GaveUpError(OSError):
    """A failure that might have passed did not pass in time; its cause is the last failure."""

    def __init__(self, error: BaseException, attempts: int, seconds: float) -> None:
        what = " ".join(str(error).split()) or "no details"
        super().__init__(
            f"{type(error).__name__}: {what} (given up after {attempts} tries in {seconds:.1f} s)"
        )
        self.attempts = attempts
        self.seconds = seconds


class Retry:
    """The tries of one operation: ask `wait_after` after each failure, sleep, try again."""

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] | None = None,
    ) -> None:
        self.failures = 0
        self._policy = policy
        self._clock = clock
        # Timing is not part of any result, so it need not be reproducible; nodes must differ.
        self._uniform = uniform or random.SystemRandom().uniform
        self._begun = clock()

    def wait_after(self, error: BaseException) -> float:
        """Seconds to sleep before the next try. Raises GaveUpError from ``error`` when there is none."""
        self.failures += 1
        policy, spent = self._policy, self._clock() - self._begun
        wait = self._uniform(0.0, min(policy.cap, policy.base * 2.0 ** (self.failures - 1)))
        if self.failures >= policy.attempts or spent + wait > policy.seconds:
            raise GaveUpError(error, self.failures, spent) from error
        return wait
