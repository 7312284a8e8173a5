"""`bench restore`, defaults: what other settings than a solver's defaults would give, picture by picture.

Meant for pictures that nothing else is judged by: `--section defaults --pictures DIR` on training pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jobs.bench.restore_pictures import together
from jobs.bench.restore_samplers import Samplers, as_in_jobs
from jobs.bench.restore_tasks import tasks
from jobs.bench.samples import Sample
from jobs.bench.scores import score
from jobs.console import say

#: Solver, and the settings that are tried: factors of a length that follows from the picture, or values.
#: A field of no solver: over how many draws, each with noise of its own, the picture is the mean.
DRAWS = "draws"
GRID: tuple[tuple[str, str, tuple[float, ...]], ...] = (
    ("dps_nojac", "scale", (0.4, 1.0, 2.0)),
    ("dps_nojac", "strength", (0.2, 0.3)),
    ("resample", "scale", (0.4, 1.0, 2.0)),
    ("resample", "every", (2, 8)),
    ("resample", "strength", (0.2, 0.3)),
    ("ldps", "strength", (0.1, 0.2, 0.3)),
    ("ldps", DRAWS, (4,)),
    ("diffpir", "strength", (0.1, 0.2)),
    ("diffpir", DRAWS, (4,)),
)
#: Fields that the grid gives as a factor of the default, which only the built solver knows.
_FACTORS = ("scale",)

Row = dict[str, Any]


def default_rows(model: Samplers, samples: Sequence[Sample], grid: Sequence[Any] = GRID) -> list[Row]:
    """PSNR of each setting on SR x2 and deblurring, its gain over the defaults, and on how many pictures."""
    truth, names = together(samples)
    side = truth.shape[1]
    rows: list[Row] = []
    for task in (tasks(side)["sr-x2"], tasks(side)["deblur"]):
        scale = int(task.degradation.get("scale", 1))
        operator = model.operator(task.degradation, truth[:, ::scale, ::scale])
        measured = task.measured(truth, operator, names)

        def psnrs(solver: Row, task: Any = task, measured: Any = measured) -> np.ndarray[Any, Any]:
            seeds = range(solver.pop(DRAWS, 1))
            filled = as_in_jobs(task.degradation, solver)
            draws = [model.restore(measured, task.degradation, filled, seed=s).pictures for s in seeds]
            restored = np.mean(draws, axis=0)
            return np.array([score(ours, true).psnr for ours, true in zip(restored, truth, strict=True)])

        usual: dict[str, np.ndarray[Any, Any]] = {}
        for name, field, values in grid:
            if name not in usual:
                say(f"{task.name}: {name} at its defaults")
                usual[name] = psnrs({"name": name})
                rows.append(_row(task.name, name, "defaults", usual[name], usual[name]))
            for value in values:
                say(f"{task.name}: {name}, {field} {value}")
                setting: Any = value
                if field in _FACTORS:
                    setting = value * model.default_of(name, field, task.degradation, measured)
                found = psnrs({"name": name, field: setting})
                told = f"{field} x {value}" if field in _FACTORS else f"{field} {value}"
                rows.append(_row(task.name, name, told, found, usual[name]))
    return rows


def _row(task: str, solver: str, setting: str, found: Any, usual: Any) -> Row:
    return {
        "task": task,
        "solver": solver,
        "setting": setting,
        "pictures": len(found),
        "psnr_db": round(float(np.mean(found)), 2),
        "over_defaults_db": round(float((found - usual).mean()), 2),
        "better on": int((found > usual).sum()),
    }
