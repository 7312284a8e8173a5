"""`bench solvers`: frames per second of every solver at a job's defaults, and what they are spent on.

Noisy enlargement of the bundled clip, frames that share nothing, in one batch on one thread. Evaluations are
counted per frame: the network forward and backward, the autoencoder's encoder and decoder. The solvers take
turns, and each row holds the median of its processor times. Solvers of few-step models, of flows and with
weights of their own are not for the embedded model, and have no row.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import Any

from jobs.bench.clips import first_frames
from jobs.bench.restore_pictures import cost_columns, is_refused, together
from jobs.bench.restore_samplers import SOLVERS, Pictures, Restored, Samplers, as_in_jobs
from jobs.bench.restore_tasks import tasks
from jobs.bench.result import BenchResult
from jobs.bench.samples import Sample
from jobs.bench.scores import mean_score, score
from jobs.bench.threads import one_thread
from jobs.console import say
from jobs.demo.demo import TRUTH

TASK = "sr-x2"
#: Frames, their side in pixels, and turns.
FULL, QUICK = (4, 96, 3), (2, 48, 1)


def run(quick: bool) -> BenchResult:
    """All solvers that a job with this task and model may name, fastest first."""
    frames, side, turns = QUICK if quick else FULL
    sample = Sample("clip", first_frames(TRUTH, frames)).square(side)
    assert sample is not None, "the bundled clip is larger"
    truth, names = together([Sample(f"frame {i}", sample.frames[i : i + 1]) for i in range(frames)])
    task = tasks(side)[TASK]
    with one_thread():
        model = Samplers()
        scale = int(task.degradation["scale"])
        operator = model.operator(task.degradation, truth[:, ::scale, ::scale])
        measured = task.measured(truth, operator, names)
        usable = [name for name in SOLVERS if not is_refused(name, task.degradation, operator, model)]
        laps: dict[str, list[Restored]] = {name: [] for name in usable}
        for turn in range(turns):
            say(f"turn {turn + 1} of {turns}")
            for name in usable:
                solver = as_in_jobs(task.degradation, {"name": name})
                laps[name].append(model.restore(measured, task.degradation, solver))
    rows = [_row(name, own, truth) for name, own in laps.items()]
    return BenchResult("solvers", tuple(sorted(rows, key=lambda row: -row["frames_per_s"])), ())


def _row(name: str, laps: list[Restored], truth: Pictures) -> dict[str, Any]:
    scores = [score(ours, true) for ours, true in zip(laps[0].pictures, truth, strict=True)]
    seconds = median(lap.seconds for lap in laps)
    return {
        "solver": name,
        "frames_per_s": round(1.0 / seconds, 3),
        **cost_columns(replace(laps[0], seconds=seconds)),
        "psnr_db": round(mean_score(scores).psnr, 2),
    }
