"""`bench restore`, orders: STSL against PSLD at as many network evaluations and at a quarter of them.

Forward and backward passes of the network are counted, the inversion's too. A step of PSLD takes 2, a level
of STSL 4 averages + 2 (2 averages + 2 without the second-order term). Both walk the share of their schedules
and take the step lengths that jobs give them; only how the evaluations are spent differs, and no last fit
hides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jobs.bench.restore_pictures import cost_columns, together
from jobs.bench.restore_samplers import Samplers, as_in_jobs
from jobs.bench.restore_tasks import tasks
from jobs.bench.samples import Sample
from jobs.bench.scores import mean_score, score, standard_error
from jobs.console import say

#: (budget, solver): of 88 evaluations per picture, and of 22. The default share of a schedule is 0.4.
BUDGETS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("1", {"name": "psld", "steps": 110}),
    ("1", {"name": "stsl", "steps": 10, "averages": 5}),
    ("1", {"name": "stsl", "steps": 18, "averages": 5, "eta": 0.0}),
    ("1", {"name": "stsl", "steps": 36, "averages": 1}),
    ("1/4", {"name": "psld", "steps": 28}),
    ("1/4", {"name": "stsl", "steps": 5, "averages": 2}),
    ("1/4", {"name": "stsl", "steps": 10, "averages": 1}),
)

Row = dict[str, Any]


def order_rows(model: Samplers, samples: Sequence[Sample]) -> list[Row]:
    """SR x4 and deblurring: fidelity, perceptual distance and residual of each budget."""
    truth, names = together(samples)
    side = truth.shape[1]
    rows = []
    for task in (tasks(side)["sr-x4"], tasks(side)["deblur"]):
        scale = int(task.degradation.get("scale", 1))
        operator = model.operator(task.degradation, truth[:, ::scale, ::scale])
        measured = task.measured(truth, operator, names)
        for share, settings in BUDGETS:
            say(f"{task.name}: {settings}")
            solver = as_in_jobs(task.degradation, {**settings, "last_fit": False})
            restored = model.restore(measured, task.degradation, solver)
            scores = [score(ours, true) for ours, true in zip(restored.pictures, truth, strict=True)]
            far = model.perceptual_distances(restored.pictures, truth)
            cost = cost_columns(restored)
            rows.append(
                {
                    "task": task.name,
                    "budget": share,
                    "solver": ", ".join(str(v) if k == "name" else f"{k} {v}" for k, v in settings.items()),
                    "evaluations": round(cost["forward"] + cost["backward"], 1),
                    "pictures": len(scores),
                    "psnr_db": round(mean_score(scores).psnr, 2),
                    "psnr_error": round(standard_error(scores).psnr, 2),
                    "ssim": round(mean_score(scores).ssim, 4),
                    "perceptual": round(float(np.mean(far)), 4),
                    **cost,
                }
            )
    return rows
