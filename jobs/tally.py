"""What progress adds up to: frames per second, time left, actors at work, videos quarantined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.events import Event


class Tally:
    """Counts of the phase at work, but for ``quarantined``, which is of the run."""

    def __init__(self) -> None:
        self.quarantined = 0
        self._begun = 0.0
        self._now = 0.0
        self._done = 0
        self._left = 0
        self._frames = 0
        self._actors: set[str] = set()

    def note(self, event: Event, now: float) -> None:
        """An event at ``now`` seconds."""
        self._now = now
        if event.kind == "phase":
            self._begun, self._frames, self._done, self._left = now, 0, 0, event.total
            self._actors = set()
        elif event.kind == "quarantined":
            self.quarantined += 1
        elif event.kind == "chunk":
            self._done, self._left = event.done, event.total - event.done
            self._frames += event.frames
            self._actors |= {event.actor} - {""}

    @property
    def figures(self) -> dict[str, Any]:
        """``frames_per_second``, ``eta_seconds``, ``actors`` and ``quarantined``, each where it is known."""
        seconds = self._now - self._begun
        known: dict[str, Any] = {}
        if self._frames and seconds > 0:
            known["frames_per_second"] = float(f"{self._frames / seconds:.3g}")
        if self._done and self._left and seconds > 0:
            known["eta_seconds"] = round(self._left * seconds / self._done)
        if self._actors:
            known["actors"] = len(self._actors)
        if self.quarantined:
            known["quarantined"] = self.quarantined
        return known
