"""`bench restore`, pictures: every solver at a job's defaults on every task, beside the classical methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.bench.restore_samplers import SOLVERS, Pictures, Restored, Samplers, as_in_jobs
from jobs.bench.restore_tasks import Task, start_of, tasks
from jobs.bench.result import Target
from jobs.bench.samples import Sample
from jobs.bench.scores import best, mean_score, score, standard_error
from jobs.console import say
from pipeline.restore_fit import misfit

if TYPE_CHECKING:
    from operators.degradations.base import ForwardOperator

#: The solver that jobs take when none is named must not lose to the best classical method by more than this.
DEFAULT, ALLOWED_LOSS_DB = "dpir", 0.0
START = "start of samplers"
_NO_COST: dict[str, Any] = dict.fromkeys(("forward", "backward", "encode", "decode", "s/picture"))

Row = dict[str, Any]


def picture_rows(model: Samplers, samples: Sequence[Sample], task: str) -> list[Row]:
    """One row per method for the ``task`` of that short name: means over ``samples``, squares of one side."""
    truth, names = together(samples)
    return list(_task_rows(tasks(truth.shape[1])[task], truth, names, model))


def together(samples: Sequence[Sample]) -> tuple[Pictures, list[str]]:
    """First frames [n, h, w, 3] on [0, 1] of samples of one size, and their names."""
    frames = np.concatenate([sample.frames[:1] for sample in samples])
    return frames.astype(np.float32) / np.float32(255.0), [sample.name for sample in samples]


def picture_targets(rows: Sequence[Row]) -> list[Target]:
    """Per task the gain of the default solver over the best classical method."""
    return [
        Target(f"{row['task']}: dB of {DEFAULT} over the best classical", row["over_classical_db"],
               -ALLOWED_LOSS_DB)
        for row in rows if row["method"] == DEFAULT
    ]  # fmt: skip


def _task_rows(task: Task, truth: Pictures, names: list[str], model: Samplers) -> Iterator[Row]:
    operator = model.operator(task.degradation, any_measured(task, truth))
    measured = task.measured(truth, operator, names)
    judge = _Judge(task, truth, model)
    for name, rival in task.rivals.items():
        candidates = [best(rival(y), x) for y, x in zip(measured, truth, strict=True)]
        yield judge.row(name, np.stack(candidates), classical=True)
    yield judge.row(START, start_of(task, operator, measured))
    for name in SOLVERS:
        if is_refused(name, task.degradation, operator, model):
            continue
        say(f"{task.name}: {name}")
        solver = as_in_jobs(task.degradation, {"name": name})
        restored = model.restore(measured, task.degradation, solver)
        yield judge.row(name, restored.pictures, restored)


def any_measured(task: Task, truth: Pictures) -> Pictures:
    """Zeros of the size that the task measures."""
    scale = int(task.degradation.get("scale", 1))
    return truth[:, ::scale, ::scale] * 0.0


def is_refused(
    name: str, degradation: Mapping[str, Any], operator: ForwardOperator, model: Samplers
) -> bool:
    """Whether a job would refuse the solver for this task, or it cannot be built."""
    from operators.solvers.registry import METHODS

    return bool(misfit(name, dict(degradation)) or METHODS[name].lacks(operator, model.model))


class _Judge:
    """Scores of one task; remembers the best classical method so far."""

    def __init__(self, task: Task, truth: Pictures, model: Samplers) -> None:
        self._task, self._truth, self._model = task, truth, model
        self._classical = -np.inf

    def row(
        self, method: str, pictures: Pictures, cost: Restored | None = None, *, classical: bool = False
    ) -> Row:
        """Means over the pictures [n, h, w, 3]; PSNR of holes where there are any."""
        pairs = zip(pictures, self._truth, strict=True)
        scores = [score(ours, true, self._task.keep) for ours, true in pairs]
        mean, error = mean_score(scores), standard_error(scores)
        if classical:
            self._classical = max(self._classical, mean.psnr)
        far = self._model.perceptual_distances(pictures, self._truth)
        row = {
            "task": self._task.name,
            "method": method,
            "pictures": len(scores),
            "psnr_db": round(mean.psnr, 2),
            "psnr_error": round(error.psnr, 2),
            "ssim": round(mean.ssim, 4),
            "perceptual": round(float(np.mean(far)), 4),
            "over_classical_db": round(mean.psnr - self._classical, 2),
        }
        return row | (_NO_COST if cost is None else cost_columns(cost))


def cost_columns(cost: Restored) -> Row:
    """Evaluations per picture and processor seconds."""
    counted = {part: round(count, 2) for part, count in cost.evaluations.items()}
    return {**counted, "s/picture": round(cost.seconds, 2)}
