"""Two ways of doing the same work, timed in turns in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Lap:
    """Seconds of one call: on the wall, and of processor time over all threads of this process."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Race:
    """Laps of both, in the order in which they ran: lap i of ``ours`` lies next to lap i of ``plain``."""

    ours: tuple[Lap, ...]
    plain: tuple[Lap, ...]

    @property
    def ours_seconds(self) -> float:
        """Median wall time."""
        return median(lap.wall for lap in self.ours)

    @property
    def plain_seconds(self) -> float:
        """Median wall time."""
        return median(lap.wall for lap in self.plain)

    @property
    def ratio(self) -> float:
        """Median over the repeats of our wall time over the plain one next to it.

        Neighbours share the load of the machine, so this moves less than the ratio of the medians.
        """
        return median(a.wall / b.wall for a, b in zip(self.ours, self.plain, strict=True))

    @property
    def cpu_ratio(self) -> float:
        """As `ratio`, of processor time, which other work on the machine disturbs least."""
        return median(a.cpu / max(b.cpu, 1e-9) for a, b in zip(self.ours, self.plain, strict=True))


def race(ours: Callable[[], object], plain: Callable[[], object], repeats: int) -> Race:
    """Run both ``repeats`` times, each time the other one first."""
    laps: dict[str, list[Lap]] = {"ours": [], "plain": []}
    for i in range(repeats):
        turns = [("ours", ours), ("plain", plain)]
        for name, work in turns if i % 2 == 0 else reversed(turns):
            laps[name].append(_lap(work))
    return Race(tuple(laps["ours"]), tuple(laps["plain"]))


def _lap(work: Callable[[], object]) -> Lap:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Lap(time.perf_counter() - wall, time.process_time() - cpu)
