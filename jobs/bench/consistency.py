"""`bench consistency`: flicker, seams, drift, style and cost of the ways to make frames agree.

The rows run through the Enhancer that jobs use, on the bundled clip or on clips that are given. Chunks are
one knot interval long, so that per-chunk sharing has as many borders as knots has knots. All temporal
figures follow the motion of the truth. The full run also measures a clip of two minutes
(`consistency_length`); both draw what happens at a border (`consistency_strip`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.bench.clips import clips_below, first_frames
from jobs.bench.consistency_length import length_rows, length_targets, reset_peak
from jobs.bench.consistency_policies import (
    DEFAULT,
    POLICIES,
    Clip,
    Policy,
    enhancer_of,
    render_chunks,
)
from jobs.bench.consistency_strip import STRIPPED, write_strip
from jobs.bench.consistency_tasks import Task, tasks
from jobs.bench.result import BenchResult, Target
from jobs.bench.style_scores import bundled_reference, shrunk_square, style_scores
from jobs.bench.video_memory import peak_kib
from jobs.console import say
from jobs.demo.demo import TRUTH
from jobs.render import Frames
from pipeline.enhancer_config import EnhancerConfig
from pipeline.errors import SpecError
from pipeline.settings import ConsistencySettings

if TYPE_CHECKING:
    from operators.metrics.temporal_scores import TemporalScores

#: The boundary index of the default over the source's own on the same pairs.
ALLOWED_INDEX = 1.05
#: The policy that has no borders and flickers as the others do.
CONTROL = "independent"
#: Every so many frames one is compared with the style: no divisor of the intervals, or only knots would be.
STYLE_EVERY = 3
_MIB = 1024.0


@dataclass(frozen=True)
class _Size:
    frames: int
    side: int
    interval: int


#: Samples differ by their noise, so that an index needs many borders: small pictures, short intervals.
QUICK, FULL, SAMPLED = _Size(17, 96, 4), _Size(41, 128, 8), _Size(41, 64, 4)


@dataclass(frozen=True)
class _Made:
    pictures: Frames
    seconds_per_frame: float
    peak_mib: float | None


def run(quick: bool, pictures: Path | None = None, figures: Path = Path("bench-out")) -> BenchResult:
    """All clips below ``pictures`` (the bundled clip without it); film strips go to ``figures``."""
    clips = [TRUTH] if pictures is None else clips_below(pictures)
    if not clips:
        raise SpecError(f"--pictures: no clip below {pictures}", field="--pictures")
    rows: list[dict[str, Any]] = []
    targets: list[Target] = []
    for path in clips:
        for task in tasks(quick):
            size = SAMPLED if task.draws_noise else QUICK if quick else FULL
            truth = shrunk_square(first_frames(path, size.frames), size.side)
            measured = _measure(path.stem, task, truth, size.interval, figures)
            rows += measured
            targets += _targets(path.stem, task.name, measured)
    if quick:
        return BenchResult("consistency", tuple(rows), tuple(targets))
    lengths = length_rows()
    return BenchResult("consistency", tuple(rows), (*targets, *length_targets(lengths)), {"length": lengths})


def _measure(name: str, task: Task, truth: Frames, interval: int, figures: Path) -> list[dict[str, Any]]:
    how = ConsistencySettings(knot_every=interval, knots_per_chunk=1)
    source = task.degrade(truth)
    clip = Clip(name, len(source), lambda ordinals: source[list(ordinals)])
    judge = _Judge(name, task, truth, interval)
    rows = [judge.row("source", _Made(truth, 0.0, None))]
    if source.shape == truth.shape and not np.array_equal(source, truth):
        rows.append(judge.row("degraded", _Made(source, 0.0, None)))
    styles = _styles(task)
    shown: dict[str, Frames] = {}
    for policy in POLICIES:
        if policy.of_noise and not task.draws_noise:
            continue
        say(f"{name}: {task.name}: {policy.name}")
        made = _render(policy, task, clip, how, styles)
        rows.append(judge.row(policy.name, made))
        if policy.name in STRIPPED:
            shown[policy.name] = made.pictures
    _compare(rows)
    if task.style:
        border = interval * max(1, (len(truth) - 1) // interval // 2)
        write_strip(figures / f"consistency_{name}.png", truth, shown, border)
    return rows


def _render(
    policy: Policy, task: Task, clip: Clip, how: ConsistencySettings, styles: dict[int, bytes]
) -> _Made:
    enhancer = enhancer_of(policy, task.enhance, how, styles)
    try:
        fresh = reset_peak()
        begun = time.process_time()
        pictures = np.concatenate(list(render_chunks(enhancer, clip, replace(how, **policy.settings))))
        seconds = (time.process_time() - begun) / clip.count
    finally:
        enhancer.close()
    return _Made(pictures, seconds, peak_kib() / _MIB if fresh else None)


def _styles(task: Task) -> dict[int, bytes]:
    if not task.style:
        return {}
    from pipeline.enhancer import Enhancer

    how = ConsistencySettings()
    enhancer = Enhancer(EnhancerConfig("embedded", "fp32", "cpu", task.enhance, how, 0, 1))
    try:
        return {0: enhancer.style(0, bundled_reference())}
    finally:
        enhancer.close()


def _compare(rows: Sequence[dict[str, Any]]) -> None:
    """Add the indices over those of independent frames, which flicker as much and have no borders."""
    (control,) = (row for row in rows if row["policy"] == CONTROL)
    for row in rows:
        for name in ("boundary", "at knots"):
            ratio = row[name] / control[name] if row[name] is not None and control[name] else math.nan
            row[f"{name} / independent"] = _rounded(ratio)


class _Judge:
    """Makes rows of one clip and task: everything is measured against the truth, or the style's reference."""

    def __init__(self, name: str, task: Task, truth: Frames, interval: int) -> None:
        from operators.metrics.boundary import pairs_across, pairs_touching
        from operators.metrics.temporal_scores import temporal_scores
        from operators.models import LatentModel

        self.name, self.task, self.truth = name, task, truth
        knots = [*range(0, len(truth), interval)]
        self.across = pairs_across(knots, len(truth))
        self.touching = pairs_touching(knots[1:], len(truth))
        self.own: TemporalScores = temporal_scores(truth, truth)
        self.model = LatentModel.from_pretrained("embedded", precision="fp32")

    def row(self, policy: str, made: _Made) -> dict[str, Any]:
        """One line of the report. ``boundary`` is the index of pairs across borders, ``at knots`` that of all
        pairs with a knot; ``s/frame`` are CPU seconds (one thread), which other work on the machine hardly
        changes."""
        from operators.metrics.boundary import boundary_index, relative_boundary_index
        from operators.metrics.temporal_scores import temporal_scores

        scores = temporal_scores(self.truth, made.pictures)
        errors, own = scores.errors[1], self.own.errors[1]
        gram, lab, gradients = self._style(made.pictures)
        return {
            "clip": self.name,
            "task": self.task.name,
            "policy": policy,
            "E_warp_x1e3": _rounded(scores.warp_error() * 1e3),
            "E_warp@8": _rounded(scores.warp_error(8) * 1e3),
            "E_warp@16": _rounded(scores.warp_error(16) * 1e3),
            "boundary": _rounded(boundary_index(errors, self.across)),
            "boundary / source": _rounded(relative_boundary_index(errors, own, self.across)),
            "at knots": _rounded(boundary_index(errors, self.touching)),
            "at knots / source": _rounded(relative_boundary_index(errors, own, self.touching)),
            "flicker": _rounded(scores.flicker_excess),
            "static flicker": _rounded(scores.static_flicker),
            "tOF": _rounded(scores.tof),
            "delta": _rounded(scores.delta_error),
            "gram": _rounded(gram, 4),
            "lab": _rounded(lab),
            "grad_ssim": _rounded(gradients),
            "s/frame": _rounded(made.seconds_per_frame),
            "peak_mib": None if made.peak_mib is None else round(made.peak_mib),
        }

    def _style(self, pictures: Frames) -> tuple[float, float, float]:
        """Means over every few frames of Gram and Lab distance to the reference (of a style) or to the truth,
        and of gradient SSIM with the truth."""
        scores = style_scores(
            self.model,
            pictures[::STYLE_EVERY],
            self.truth[::STYLE_EVERY],
            bundled_reference() if self.task.style else None,
        )
        return scores.gram, scores.lab, scores.gradients


def _targets(name: str, task: str, rows: Sequence[dict[str, Any]]) -> list[Target]:
    """The default's seams, said as a bound from below: the source's boundary index over the default's.

    Flicker moves every index towards 1, the source's least. The column ``boundary / independent`` has no such
    bias, and more scatter than a bound of 5 % bears: both sides are means over a handful of pairs.
    """
    (default,) = (row for row in rows if row["policy"] == DEFAULT)
    value = default["boundary / source"]
    if not value:
        return []
    what = f"{name}, {task}: boundary index of the source over that of {DEFAULT}"
    return [Target(what, round(1 / value, 4), round(1 / ALLOWED_INDEX, 4))]


def _rounded(value: float, digits: int = 3) -> float | None:
    """None for what could not be measured: JSON has no NaN."""
    return round(value, digits) if math.isfinite(value) else None
