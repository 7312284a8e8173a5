"""`reelweave train-embedded`: trains the embedded model's networks from a folder of pictures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from jobs.console import DONE, print_json, quiet_stdout, say
from pipeline.errors import SpecError

#: Seconds between signs of life.
BREATH = 15.0


def command(pictures: Path, out: Path, as_json: bool, **options: Any) -> int:
    """Train, or go on with a run that was stopped; prints the held-out curve while it runs.

    ``options`` are the fields of `TrainingSettings`. Raises SpecError (exit code 2) for pictures, folders
    or checkpoints that cannot be used.
    """
    # torch takes seconds to import: `--help` and the other commands do without.
    from operators.errors import TrainingError
    from operators.training.run import PARTS, TrainingSettings, train

    settings = TrainingSettings(pictures=pictures, out=out, breathe_every=BREATH, **options)

    def report(point: Any) -> None:
        total = point.total or "?"
        line = f"{point.task} {point.iteration}/{total} {point.seconds / 60:.1f} min loss {point.loss:.4f}"
        if point.held_out:
            figures = "  ".join(f"{name} {value:.4g}" for name, value in point.held_out.items())
            line += f"  held out: {figures}"
        say(line)

    try:
        with quiet_stdout():
            curves = train(settings, time.monotonic, report)
    except TrainingError as error:
        raise SpecError(str(error), field="train-embedded") from error
    lacking = [f"{part}/" for part in PARTS if not (out / part).is_dir()]
    use = f"add {', '.join(lacking)} to use it" if lacking else f"use it with `model: {out}`"
    say(f"written to {out}/; {use}")
    if as_json:
        last = {part: points[-1] for part, points in curves.items()}
        parts = {part: {"iteration": point.iteration, **point.held_out} for part, point in last.items()}
        print_json({"out": str(out), "parts": parts})
    return DONE
