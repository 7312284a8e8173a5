"""Learning rate over a run whose length is a number of iterations or a number of minutes."""

from __future__ import annotations

from dataclasses import dataclass, replace

#: The share of a run at the full rate; the rest falls linearly to zero ("warmup-stable-decay").
STABLE = 0.8
WARM_UP = 40


@dataclass(frozen=True)
class Schedule:
    """Warm-up, a stable part, a linear fall to zero. ``stable`` is the iteration at which the fall begins,
    None while that is not known yet (a run by the clock)."""

    stable: int | None

    @classmethod
    def of_iterations(cls, iterations: int) -> Schedule:
        """The schedule of a run of about ``iterations``; `total` says how many it is exactly."""
        return cls(max(1, round(min(iterations * STABLE, iterations - 1))))

    @property
    def total(self) -> int | None:
        """Iterations of the whole run."""
        return None if self.stable is None else self.stable + max(1, round(self.stable * (1 / STABLE - 1)))

    def fall_from(self, iteration: int) -> Schedule:
        """Begin the fall at ``iteration``: what a run by the clock does once `STABLE` of its time is over.
        The same run is had again by ``of_iterations(total)``."""
        return replace(self, stable=max(1, iteration))

    def rate(self, iteration: int) -> float:
        """Multiple of the full learning rate at ``iteration``, counted from 0."""
        warm = min(1.0, (iteration + 1) / WARM_UP)
        if self.stable is None or self.total is None or iteration < self.stable:
            return warm
        return warm * (self.total - iteration) / (self.total - self.stable)
