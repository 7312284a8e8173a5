"""`bench calibrate`: what the stages of a job take on this machine, and how well that predicts another clip.

The job's own Enhancer, decoder and encoder on squares of the bundled clip: scenes of one and of two knot
intervals in two sizes, several turns. Two lengths tell what a chunk takes besides its frames. The result is
kept as `calibration.json` (`pipeline.calibration`), which `reelweave plan --calibration` reads. Then a scene
of another length, in a full run of another size too, is predicted and computed, and the error reported.
"""

from __future__ import annotations

import itertools
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from jobs.bench.clips import first_frames
from jobs.bench.consistency_policies import Clip, render_chunks
from jobs.bench.result import BenchResult
from jobs.bench.samples import Sample
from jobs.console import say
from jobs.demo.demo import TRUTH
from jobs.render import Frames
from jobs.spec import load_spec, parse_spec
from pipeline.calibration import ACTOR_STAGES, ZERO, Calibration, Span, Work, job_digest
from pipeline.errors import SpecError
from pipeline.item_masks import mask_of
from pipeline.model_fit import require_model_fit
from pipeline.settings import JobSettings
from pipeline.video_planner import growth
from pipeline.windows import couples_frames

if TYPE_CHECKING:
    from pipeline.enhancer import Enhancer

Made = TypeVar("Made")
FILE = "calibration.json"
#: Sides in pixels of what leaves the job, and turns; then side and knot intervals of the scene to predict.
FULL_SIDES, QUICK_SIDES, TURNS = (96, 160), (48, 64), 2
FULL_CHECK, QUICK_CHECK = (128, 3), (64, 3)


@dataclass(frozen=True)
class Timed:
    """Seconds of one call on ``frames`` frames of ``megapixels`` each."""

    stage: str
    frames: int
    megapixels: float
    seconds: float


def run(quick: bool, figures: Path, job: Path | None = None) -> BenchResult:
    """``job`` is calibrated, or a noisy enlargement with the defaults; the file is kept in ``figures``.
    Raises SpecError for a job whose costs depend on its videos."""
    settings = _settings(job)
    clock = _Clock(settings)
    try:
        for turn, side in itertools.product(range(TURNS), QUICK_SIDES if quick else FULL_SIDES):
            say(f"turn {turn + 1} of {TURNS}: {side} x {side}")
            clock.scene(side, 1)
            clock.scene(side, 2)
        found = calibration_of(settings, clock.device, clock.samples)
        figures.mkdir(parents=True, exist_ok=True)
        found.write(figures / FILE)
        clock.samples.clear()
        side, intervals = QUICK_CHECK if quick else FULL_CHECK
        say(f"{intervals} intervals of {side} x {side}, to be predicted")
        clock.scene(side, intervals)
        checked = _checked(found, clock.samples)
    finally:
        clock.enhancer.close()
    rows = tuple(
        {
            "stage": stage,
            "low_s": _short(span.low),
            "middle_s": _short(span.middle),
            "high_s": _short(span.high),
        }
        for stage, span in found.stages.items()
    )
    return BenchResult("calibrate", rows, (), {"prediction": (checked,)})


class _Clock:
    """A job's stages on squares of the bundled clip; every call leaves a sample."""

    def __init__(self, settings: JobSettings) -> None:
        from pipeline.enhancement.device import device_here
        from pipeline.enhancer import Enhancer
        from pipeline.pictures import load_pictures

        self.settings, self.device = settings, device_here()
        pictures = load_pictures(settings)
        config = pictures.enhancer_config(settings, self.device)
        assert config is not None
        self.enhancer: Enhancer = Enhancer(config)
        self.enhancer.adopt(
            {
                number: self.enhancer.style(number, *style.pictures, weights=style.weights)
                for number, style in pictures.styles.items()
            }
        )
        self.samples: list[list[Timed]] = []

    def scene(self, side: int, intervals: int) -> None:
        """One chunk of so many knot intervals; what leaves the job has ``side`` pixels a side."""
        count = intervals * self.settings.consistency.knot_every
        frames = _frames(side // growth(self.settings), count)
        how = replace(self.settings.consistency, knots_per_chunk=intervals + 1)
        scene = _Scene(self.enhancer, side * side / 1e6)
        clip = Clip(f"calibrate {side}", count, lambda ordinals: frames[list(ordinals)])
        made = np.concatenate(list(render_chunks(scene, clip, how)))  # type: ignore[arg-type]
        self.samples.append([*scene.samples, *_io(frames, made, self.settings)])


class _Scene:
    """An Enhancer for one scene, with a clock."""

    def __init__(self, enhancer: Enhancer, megapixels: float) -> None:
        self._enhancer, self._megapixels = enhancer, megapixels
        self._known: set[int] = set()
        self.samples: list[Timed] = []

    def anchors(self, task: Any, frames: Frames) -> bytes:
        self._known |= set(task.ordinals)
        return self._timed("reference", len(task.ordinals), lambda: self._enhancer.anchors(task, frames))

    def knots(self, task: Any, frames: Frames, anchors: bytes | None) -> dict[int, bytes]:
        self._known |= set(task.ordinals)
        return self._timed(
            "reference", len(task.ordinals), lambda: self._enhancer.knots(task, frames, anchors)
        )

    def chunk(
        self,
        task: Any,
        frames: Frames,
        grid: Sequence[int],
        anchors: bytes | None,
        knots: Mapping[int, bytes],
    ) -> Frames:
        count = len(set(task.ordinals) - self._known)
        return self._timed("frame", count, lambda: self._enhancer.chunk(task, frames, grid, anchors, knots))

    def _timed(self, stage: str, frames: int, work: Callable[[], Made]) -> Made:
        made, seconds = _timed(work)
        self.samples.append(Timed(stage, frames, self._megapixels, seconds))
        return made


def calibration_of(settings: JobSettings, device: str, scenes: Sequence[Sequence[Timed]]) -> Calibration:
    """From samples of scenes in turns of one and of two intervals, of the same size each."""
    rates: dict[str, list[float]] = {
        stage: [] for stage in ("decode", "reference", "frame", "chunk", "encode")
    }
    for short, long in zip(scenes[::2], scenes[1::2], strict=True):
        frame, chunk = frame_and_chunk(_of(short, "frame"), _of(long, "frame"))
        rates["frame"].append(frame)
        rates["chunk"].append(chunk)
    for scene in scenes:
        for stage in ("decode", "reference", "encode"):
            rates[stage] += [
                one.seconds / (one.frames * one.megapixels) for one in scene if one.stage == stage
            ]
    spans = {
        stage: Span(min(found), median(found), max(found)) if found else ZERO
        for stage, found in rates.items()
    }
    return Calibration(job_digest(settings), device, platform.processor() or platform.machine(), spans)


def frame_and_chunk(short: Timed, long: Timed) -> tuple[float, float]:
    """Seconds per megapixel of frames, and per chunk besides, by the line through two chunks of one size. A
    longer one that took no longer says nothing of a chunk's own share: then it has none."""
    more = (long.frames - short.frames) * long.megapixels
    slope = (long.seconds - short.seconds) / more
    rest = short.seconds - slope * short.frames * short.megapixels
    if slope <= 0.0 or rest <= 0.0:
        return long.seconds / (long.frames * long.megapixels), 0.0
    return slope, rest


def _checked(found: Calibration, scenes: Sequence[Sequence[Timed]]) -> dict[str, Any]:
    (samples,) = scenes
    megapixels = {
        stage: sum(one.frames * one.megapixels for one in samples if one.stage == stage)
        for stage in ("reference", "frame")
    }
    work = Work(0.0, megapixels["reference"], megapixels["frame"], 1)
    seconds = work.seconds(found)
    guess = ZERO
    for stage in ACTOR_STAGES:
        guess = guess.plus(seconds[stage])
    took = sum(one.seconds for one in samples if one.stage in ACTOR_STAGES)
    return {
        "frames": sum(one.frames for one in samples if one.stage in ACTOR_STAGES),
        "predicted_s": round(guess.middle, 2),
        "from_s": round(guess.low, 2),
        "to_s": round(guess.high, 2),
        "took_s": round(took, 2),
        "error": round(guess.middle / took - 1.0, 3),
        "inside": guess.low <= took <= guess.high,
    }


def _of(scene: Sequence[Timed], stage: str) -> Timed:
    return next(one for one in scene if one.stage == stage)


def _frames(side: int, count: int) -> Frames:
    """The bundled clip's centre, forth and back for as long as is wanted."""
    square = Sample("clip", first_frames(TRUTH, count)).square(side)
    if square is None:
        raise SpecError(f"--job: squares of {side} pixels do not fit into {TRUTH}", field="--job")
    forth = list(range(len(square.frames)))
    order = list(itertools.islice(itertools.cycle([*forth, *forth[-2:0:-1]]), count))
    return square.frames[order]


def _io(source: Frames, made: Frames, settings: JobSettings) -> list[Timed]:
    """Decoding a file of ``source`` and encoding ``made``, as the tasks beside the actors do."""
    from jobs.bench.calibrate_io import timed_io

    return [
        Timed(stage, len(frames), frames.shape[1] * frames.shape[2] / 1e6, seconds)
        for (stage, seconds), frames in zip(
            timed_io(source, made, settings).items(), (source, made), strict=True
        )
    ]


def _timed(work: Callable[[], Made]) -> tuple[Made, float]:
    begun = time.perf_counter()
    made = work()
    return made, time.perf_counter() - begun


def _settings(job: Path | None) -> JobSettings:
    """Raises SpecError for what cannot be measured on another clip."""
    if job is None:
        degradation = {"kind": "super_resolution", "scale": 2, "kernel": "area", "noise": 0.02}
        enhance = [{"restore": {"degradation": degradation}}]
        told = {"name": "calibrate", "source": "clip", "output": tempfile.gettempdir(), "enhance": enhance}
        return parse_spec(told).to_settings()
    settings = load_spec(job).to_settings()
    require_model_fit(settings)
    refused = _refusal(settings)
    if refused:
        raise SpecError(f"--job: {job}: {refused}", field="--job")
    return settings


def _refusal(settings: JobSettings) -> str:
    if not settings.enhance:
        return "enhance is empty, and only the model's work is calibrated; take a job that has some"
    for item in settings.enhance:
        if mask_of(item) is not None:
            return "its masks are of one size, and the clip has another; calibrate it without them"
        if item.get("restore", {}).get("degradation", {}).get("kind") == "auto":
            return "degradation auto costs what each video needs; calibrate a job that names it"
        if couples_frames(item):
            return "it restores frames in windows, which are not calibrated yet; no estimate can be made"
    return ""


def _short(seconds: float) -> float:
    return float(f"{seconds:.4g}")
