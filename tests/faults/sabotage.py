"""The hand that kills, inside the workers, at a moment that does not depend on the machine's speed."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from jobs.bench.work_log import Seen, WorkLog

_DYING_SECONDS = 60.0


@dataclass(frozen=True)
class Saboteur:
    """Logs what workers do; at the ``nth`` moment of its kind, and once only, it kills."""

    log: WorkLog
    victim: str
    moment: str
    step: str
    nth: int
    driver: int

    def __call__(self, seen: Seen) -> None:
        self.log(seen)
        if (seen.moment, seen.step) != (self.moment, self.step):
            return
        so_far = sum((one.moment, one.step) == (self.moment, self.step) for one in self.log.read())
        if so_far >= self.nth and self._first():
            os.kill(self._process(), signal.SIGKILL)
            time.sleep(_DYING_SECONDS)  # nobody gets past this line, however slowly the news of the death go

    def _first(self) -> bool:
        try:
            self.struck.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    @property
    def struck(self) -> Path:
        """There once the blow has fallen."""
        return self.log.path.with_suffix(".struck")

    def _process(self) -> int:
        if self.victim == "driver":
            return self.driver
        if self.victim == "worker":
            return os.getpid()
        raylet = os.getppid()
        assert "raylet" in Path(f"/proc/{raylet}/cmdline").read_text()
        return raylet
