"""`bench prior`: the embedded model on pictures it was not trained on, against classical methods.

Round trip of the autoencoder, denoising, super-resolution, holes, and whether a reference matters to the
network: means and standard errors over all samples of a folder, at two sizes, in one run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.bench.baselines import has_bm3d
from jobs.bench.embedded import PAIR_SIDE, Embedded
from jobs.bench.result import BenchResult, Target
from jobs.bench.samples import Sample, evenly, read_samples
from jobs.bench.scores import Score, mean_score, standard_error
from jobs.bench.style import style_rows
from jobs.bench.tasks import (
    OURS,
    RIVALS,
    ROUND_TRIP,
    SIGMAS,
    Scores,
    better_denoising,
    measure,
    with_denoising,
)
from jobs.bench.threads import one_thread
from jobs.console import say
from pipeline.errors import SpecError

SMALL, LARGE = 256, 512
QUICK_SAMPLES, PAIRS, QUICK_PAIRS = 4, 24, 8
#: The bars.
ROUND_TRIP_DB = {SMALL: 34.5, LARGE: 34.0}
GAIN_DB = {
    "denoise 0.1": 2.5,
    "denoise 0.2": 2.5,
    "SR x2": 0.0,
    "SR x4": 0.0,
    "boxes": 0.5,
    "scratches": 0.5,
}
LARGE_LOSS_DB = 0.15
SECONDS = 0.15
REFERENCE_TIMESTEP, NONE_OVER_OWN, FOREIGN_OVER_OWN = 400, round(1 / 0.9, 3), 1.05


@dataclass(frozen=True)
class _Group:
    """All samples of one size: ``scores`` by sample name."""

    side: int
    scores: dict[str, Scores]

    def mean(self, task: str, method: str, names: set[str] | None = None) -> Score:
        """Mean over the samples ``names``, all by default."""
        return mean_score(
            [s[task, method] for name, s in self.scores.items() if names is None or name in names]
        )

    def rival(self, task: str) -> str:
        """The classical method with the highest mean PSNR among those that the task's bar is about."""
        return max(RIVALS[task], key=lambda method: self.mean(task, method).psnr)

    def gain(self, task: str, names: set[str] | None = None) -> float:
        """Mean PSNR of ours minus that of the rival, in dB."""
        return self.mean(task, OURS, names).psnr - self.mean(task, self.rival(task), names).psnr


def run(quick: bool, pictures: Path) -> BenchResult:
    """Everything below ``pictures``; ``quick`` takes four samples at the smaller size alone.

    One thread throughout. Raises SpecError naming --pictures.
    """
    samples = read_samples(pictures)
    small = [square for sample in samples if (square := sample.square_up_to(SMALL)) is not None]
    large = [square for sample in samples if (square := sample.square(LARGE)) is not None]
    paired = [sample for sample in samples if min(sample.frames.shape[1:3]) >= PAIR_SIDE]
    if not small:
        raise SpecError(
            f"--pictures: none below {pictures} holds {SMALL} x {SMALL} pixels", field="--pictures"
        )
    with one_thread():
        model = Embedded()
        seconds = model.seconds_per_evaluation(SMALL)
        sizes = {SMALL: evenly(small, QUICK_SAMPLES)} if quick else {SMALL: small, LARGE: large}
        groups = _with_one_denoising(
            [_measured(side, of_size, model) for side, of_size in sizes.items() if of_size]
        )
        say("reference table")
        references = model.reference_rows(paired, QUICK_PAIRS if quick else PAIRS)
        say("style table")
        styles = style_rows(model.model, paired, QUICK_PAIRS if quick else PAIRS)
    rows = [row for group in groups for row in _rows(group)]
    targets = [*_quality_targets(groups), *_reference_targets(references)]
    targets.append(
        Target(f"{SECONDS} s over the seconds of one evaluation", round(SECONDS / seconds, 3), 1.0)
    )
    tables = {"references": tuple(references), "style by attention alone": tuple(styles)}
    return BenchResult("prior", tuple(rows), tuple(targets), tables)


def _measured(side: int, squares: list[Sample], model: Embedded) -> _Group:
    scores = {}
    for i, square in enumerate(squares, start=1):
        say(f"{side} px, {i} of {len(squares)}: {square.name}")
        scores[square.name] = measure(square, model)
    return _Group(side, scores)


def _with_one_denoising(groups: list[_Group]) -> list[_Group]:
    """One fixed number of denoising steps for every sample, size and noise level."""
    steps = better_denoising(groups[0].scores.values())
    say(f"of the denoisings that of {steps} step(s) counts")
    return [
        _Group(group.side, {name: with_denoising(s, steps) for name, s in group.scores.items()})
        for group in groups
    ]


def _rows(group: _Group) -> list[dict[str, Any]]:
    """Per task a row for each method, and one for the paired difference of ours and the rival."""
    all_scores = list(group.scores.values())
    rows = []
    for task, method in all_scores[0]:
        rows.append(_row(group.side, task, method, [s[task, method] for s in all_scores]))
    for task in RIVALS:
        rival = group.rival(task)
        gains = [s[task, OURS] - s[task, rival] for s in all_scores]
        rows.append(_row(group.side, task, f"{OURS} minus {rival}", gains))
    if not has_bm3d():
        rows += [
            _row(group.side, f"denoise {sigma}", "BM3D: package bm3d is not installed", [])
            for sigma in SIGMAS
        ]
    order = [ROUND_TRIP, *RIVALS]
    return sorted(rows, key=lambda row: order.index(row["task"]))


def _row(side: int, task: str, method: str, scores: list[Score]) -> dict[str, Any]:
    row: dict[str, Any] = {"task": task, "px": side, "method": method, "samples": len(scores)}
    figures = dict.fromkeys(("psnr_db", "psnr_error", "ssim", "ssim_error"))
    if not scores:
        return row | figures
    mean, error = mean_score(scores), standard_error(scores)
    return row | {
        "psnr_db": round(mean.psnr, 3),
        "psnr_error": round(error.psnr, 3),
        "ssim": round(mean.ssim, 4),
        "ssim_error": round(error.ssim, 4),
    }


def _quality_targets(groups: list[_Group]) -> list[Target]:
    small = groups[0]
    targets = [
        Target(
            f"round trip at {group.side} px in dB",
            round(group.mean(ROUND_TRIP, OURS).psnr, 3),
            ROUND_TRIP_DB[group.side],
        )
        for group in groups
    ]
    for task, bound in GAIN_DB.items():
        name = f"{task} at {SMALL} px: dB over {small.rival(task)}"
        targets.append(Target(name, round(small.gain(task), 3), bound))
    for group in groups[1:]:
        both = set(small.scores) & set(group.scores)
        for task in GAIN_DB:
            change = group.gain(task, both) - small.gain(task, both)
            name = f"{task}: dB of gain at {group.side} px minus at {SMALL} px"
            targets.append(Target(name, round(change, 3), -LARGE_LOSS_DB))
    return targets


def _reference_targets(references: list[dict[str, Any]]) -> list[Target]:
    row = next(r for r in references if r["layers"] == "all" and r["t"] == REFERENCE_TIMESTEP)
    where = f"t={REFERENCE_TIMESTEP}, all layers"
    return [
        Target(
            f"loss without a reference over with the own, {where}",
            round(1 / row["own/none"], 3),
            NONE_OVER_OWN,
        ),
        Target(f"loss with a foreign reference over the own, {where}", row["foreign/own"], FOREIGN_OVER_OWN),
    ]
