"""What the work of a job takes on a machine: measured there by `reelweave bench calibrate`, read by `plan`.

A calibration file is JSON:

    format    "reelweave calibration 1"
    job       digest of what costs depend on: the enhance list, model, precision, consistency, encoder
    device    "cpu" or "cuda", and ``machine``, its name
    stages    by stage {"low", "middle", "high"}: smallest, median and largest measured seconds
                decode      per megapixel of the source
                reference   per megapixel of an anchor or knot as it leaves the job
                frame       per megapixel of any other frame as it leaves the job
                chunk       per chunk, besides its frames
                encode      per megapixel of what leaves the job
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import SpecError
from pipeline.keys import canonical_json, digest
from pipeline.settings import JobSettings

FORMAT = "reelweave calibration 1"
#: Stages of the accelerator's actors, and of the tasks beside them.
ACTOR_STAGES, TASK_STAGES = ("reference", "frame", "chunk"), ("decode", "encode")


@dataclass(frozen=True)
class Span:
    """A measured quantity: its smallest, median and largest value."""

    low: float
    middle: float
    high: float

    def times(self, count: float) -> Span:
        """That of so many."""
        return Span(self.low * count, self.middle * count, self.high * count)

    def plus(self, other: Span) -> Span:
        """Both after each other."""
        return Span(self.low + other.low, self.middle + other.middle, self.high + other.high)


ZERO = Span(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Calibration:
    """Seconds by stage, of one job on one machine."""

    job: str
    device: str
    machine: str
    stages: Mapping[str, Span]

    def write(self, path: Path) -> None:
        """As the module says. Raises OSError."""
        facts = {"format": FORMAT, **dataclasses.asdict(self)}
        path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Work:
    """What is to be done: megapixels of sources and of what leaves the job, as references and as other
    frames, and chunks."""

    source_megapixels: float
    reference_megapixels: float
    frame_megapixels: float
    chunks: int

    def seconds(self, calibration: Calibration) -> dict[str, Span]:
        """By stage, on one actor and one task at a time."""
        megapixels = self.reference_megapixels + self.frame_megapixels
        counts = {
            "decode": self.source_megapixels,
            "reference": self.reference_megapixels,
            "frame": self.frame_megapixels,
            "chunk": float(self.chunks),
            "encode": megapixels,
        }
        return {stage: calibration.stages[stage].times(count) for stage, count in counts.items()}


def job_digest(settings: JobSettings) -> str:
    """Names what the costs of a job depend on, besides its videos."""
    return digest(
        {
            "enhance": list(settings.enhance),
            "model": settings.model,
            "precision": settings.precision,
            "autoencoder": settings.autoencoder,
            "threads": settings.torch_threads,
            "consistency": dataclasses.asdict(settings.consistency),
            "encode": dataclasses.asdict(settings.encode),
        }
    )


def read_calibration(path: Path, settings: JobSettings) -> Calibration:
    """Raises SpecError, field ``--calibration``, for a file that is none, is damaged, or was measured for a
    job of other costs."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refused(f"{path} cannot be read ({type(error).__name__})") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise _refused(f"{path} is no calibration file")
    try:
        stages = {stage: _span(facts["stages"][stage]) for stage in (*ACTOR_STAGES, *TASK_STAGES)}
        found = Calibration(str(facts["job"]), str(facts["device"]), str(facts["machine"]), stages)
    except (KeyError, TypeError, ValueError) as error:
        raise _refused(f"{path} is damaged ({type(error).__name__}: {error})") from error
    if found.job != job_digest(settings):
        raise _refused(f"{path} was measured for another enhance list, model, consistency or encoder")
    return found


def _span(values: Any) -> Span:
    span = Span(float(values["low"]), float(values["middle"]), float(values["high"]))
    if not 0.0 <= span.low <= span.middle <= span.high < math.inf:
        raise ValueError(f"{canonical_json(values).decode()} is no range of seconds")
    return span


def _refused(what: str) -> SpecError:
    fix = "make one with: reelweave bench calibrate --job JOB.yaml"
    return SpecError(f"--calibration: {what}; {fix}", field="--calibration")
