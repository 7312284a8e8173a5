"""What a run tells Prometheus, through the metrics agent that Ray keeps on every node.

    in the code          as scraped
    reelweave_frames     ray_reelweave_frames_total{stage="encode", ...}     a counter
    reelweave_lease_held ray_reelweave_lease_held{...}                       a gauge

Counts are of this run's work: what an earlier run finished is not done again and not counted again. A worker
that is killed takes the counts of its last seconds with it, so these figures are for watching; the manifests
are what is true. Outside Ray (commands that read an output, unit tests) nothing is counted, and nothing
imports Ray for it.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, cast

_P = ParamSpec("_P")
_Row = dict[str, Any]


@dataclass(frozen=True)
class Metric:
    """A counter, which only grows, or a gauge. ``tags`` are its labels; their values are stable words."""

    kind: Literal["counter", "gauge"]
    name: str
    meaning: str
    tags: tuple[str, ...] = ()

    @property
    def exported(self) -> str:
        """The name that Prometheus sees."""
        return f"ray_{self.name}{'_total' if self.kind == 'counter' else ''}"


UNITS = Metric(
    "counter",
    "reelweave_units",
    "Attempts that ended, by step (index, decode, enhance, encode, assemble) and code: ok, or why not",
    ("stage", "code"),
)
SECONDS = Metric("counter", "reelweave_stage_seconds", "Seconds of attempts that ended, by step", ("stage",))
FRAMES = Metric(
    "counter", "reelweave_frames", "Frames of units that went through a step; encode: frames done", ("stage",)
)
VIDEOS = Metric(
    "counter",
    "reelweave_videos",
    "Videos that ended: done, with an empty code, or quarantined and why",
    ("status", "code"),
)
UNITS_LEFT = Metric("gauge", "reelweave_units_left", "Units of a phase that have not ended", ("phase",))
BYTES_READ = Metric(
    "counter",
    "reelweave_bytes_read",
    "Bytes read from the output's storage, and of remote sources",
    ("place",),
)
BYTES_WRITTEN = Metric(
    "counter", "reelweave_bytes_written", "Bytes written to the output's storage", ("place",)
)
LEASE_HELD = Metric("gauge", "reelweave_lease_held", "1 while the run holds its output's lease, 0 afterwards")

METRICS = (UNITS, SECONDS, FRAMES, VIDEOS, UNITS_LEFT, BYTES_READ, BYTES_WRITTEN, LEASE_HELD)


def measured(attempt: Callable[_P, _Row]) -> Callable[_P, _Row]:
    """Decorate a step ``(row, context, stage, ...) -> row`` that fails by the row it returns: counts its
    attempts, their seconds, and the frames of those that went well. Rows that had failed before it are
    handed through uncounted."""

    @functools.wraps(attempt)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _Row:
        begun = time.monotonic()
        row = attempt(*args, **kwargs)
        before, stage = cast(_Row, args[0]), str(args[2])
        if before["status"] == "ok":
            _count_attempt(stage, row, time.monotonic() - begun)
        return row

    return run


def count_video(status: str, code: str) -> None:
    """A video ended; ``code`` is empty when it is done."""
    _tell(VIDEOS, 1, status=status, code=code)


def count_read(place: Literal["source", "output"], size: int) -> None:
    """``size`` bytes came from storage."""
    _tell(BYTES_READ, size, place=place)


def count_written(place: Literal["output"], size: int) -> None:
    """``size`` bytes went to storage."""
    _tell(BYTES_WRITTEN, size, place=place)


def show_left(phase: str, units: int) -> None:
    """How many units of a phase have not ended."""
    _tell(UNITS_LEFT, units, phase=phase)


def show_lease(*, held: bool) -> None:
    """Whether this run holds the lease of its output."""
    _tell(LEASE_HELD, int(held))


def _count_attempt(stage: str, row: _Row, seconds: float) -> None:
    well = row["status"] == "ok"
    _tell(UNITS, 1, stage=stage, code="ok" if well else json.loads(row["failure"])["code"])
    _tell(SECONDS, seconds, stage=stage)
    if well and "task" in row:
        _tell(FRAMES, len(json.loads(row["task"])["ordinals"]), stage=stage)


def _tell(metric: Metric, value: float, **tags: str) -> None:
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return
    instrument = _instrument(metric)
    if metric.kind == "gauge":
        instrument.set(value, tags)
    elif value > 0:  # Ray refuses to add nothing to a counter
        instrument.inc(value, tags)


@functools.cache
def _instrument(metric: Metric) -> Any:
    from ray.util.metrics import Counter, Gauge

    kind = Counter if metric.kind == "counter" else Gauge
    return kind(metric.name, description=metric.meaning, tag_keys=metric.tags)
