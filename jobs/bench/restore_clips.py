"""`bench restore`, clips: what solvers do to a clip in time, frames alone with the noise that jobs share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.bench.restore_pictures import START, any_measured, cost_columns, is_refused
from jobs.bench.restore_samplers import SOLVERS, Restored, Samplers, as_in_jobs
from jobs.bench.restore_tasks import Task, start_of, tasks
from jobs.bench.scores import best, mean_score, score
from jobs.console import say
from pipeline.settings import ConsistencySettings

Frames = NDArray[np.uint8]
Row = dict[str, Any]


def clip_rows(model: Samplers, name: str, frames: Frames) -> list[Row]:
    """Every task on a clip [n, h, w, 3] by every solver: PSNR (of holes, where there are any), E_warp along
    the truth's motion (x1e3), cost."""
    return [row for task in tasks(frames.shape[1]).values() for row in _task_rows(model, task, name, frames)]


def _task_rows(model: Samplers, task: Task, name: str, frames: Frames) -> Iterator[Row]:
    from operators.metrics.temporal_scores import temporal_scores

    truth = frames.astype(np.float32) / np.float32(255.0)
    operator = model.operator(task.degradation, any_measured(task, truth))
    measured = task.measured(truth, operator, [f"{name} {i}" for i in range(len(truth))])

    def row(method: str, pictures: NDArray[np.float32], cost: Restored | None = None) -> Row:
        codes = np.rint(np.clip(pictures, 0.0, 1.0) * 255.0).astype(np.uint8)
        scores = [score(ours, true, task.keep) for ours, true in zip(pictures, truth, strict=True)]
        steady = temporal_scores(frames, codes, distances=(1,))
        columns: Row = {
            "clip": name,
            "task": task.name,
            "method": method,
            "frames": len(frames),
            "psnr_db": round(mean_score(scores).psnr, 2),
            "E_warp x1e3": round(1e3 * steady.warp_error(), 3),
            "flicker": round(steady.flicker_excess, 2),
        }
        return columns | (dict.fromkeys(_COST) if cost is None else cost_columns(cost))

    yield row("truth", truth)
    for rival, method in task.rivals.items():
        yield row(rival, np.stack([best(method(y), x) for y, x in zip(measured, truth, strict=True)]))
    yield row(START, start_of(task, operator, measured))
    for solver in SOLVERS:
        if is_refused(solver, task.degradation, operator, model):
            continue
        say(f"{name}, {task.name}: {solver}")
        filled = as_in_jobs(task.degradation, {"name": solver})
        restored = model.restore(measured, task.degradation, filled, rho=ConsistencySettings().rho)
        yield row(solver, restored.pictures, restored)


_COST = ("forward", "backward", "encode", "decode", "s/picture")
