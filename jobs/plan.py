"""`reelweave plan`: what would run, from the job file and the store; writes nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.console import DONE, print_json, quiet_stdout, say
from jobs.spec import load_spec
from pipeline.errors import SpecError

if TYPE_CHECKING:
    from pipeline.job_plan import JobPlan


def command(
    job: Path,
    overrides: list[str],
    as_json: bool,
    calibration: Path | None = None,
    price_per_hour: float | None = None,
) -> int:
    """Print the plan of a job as a table, or as one JSON object. ``calibration``: a file that `bench
    calibrate` left, by which hours are estimated, and with ``price_per_hour`` a price. Raises SpecError."""
    settings = load_spec(job, overrides).to_settings()
    if price_per_hour is not None and calibration is None:
        raise SpecError(
            "--price-per-hour: a price needs --calibration; make one with: reelweave bench calibrate --job "
            f"{job}",
            field="--price-per-hour",
        )
    with quiet_stdout():
        from pipeline.auto_degradation import described
        from pipeline.calibration import read_calibration
        from pipeline.cost_model import predicted
        from pipeline.job_plan import plan_job

        measured = None if calibration is None else read_calibration(calibration, settings)
        found = plan_job(settings)
    if measured is not None:
        cost = predicted(found, settings, measured, price_per_hour)
        found = dataclasses.replace(found, estimate={**found.estimate, **cost})
    if as_json:
        print_json(plan_json(found))
        return DONE
    for label, value in plan_lines(found):
        print(f"{label:<22}{value}")
    if found.provenance:
        say(f"provenance: {found.provenance}")
    for uri, estimate in found.auto.items():
        say(f"{uri}: {described(estimate)}")
    for warning in found.warnings:
        say(f"warning: {warning}")
    for rejected in found.rejected:
        say(f"rejected {rejected.uri}: {rejected.code}: {rejected.error}")
    return DONE


def plan_json(plan: JobPlan) -> dict[str, Any]:
    """The object that ``plan --json`` prints."""
    return {
        "videos": plan.videos,
        "scenes": plan.scenes,
        "chunks": plan.chunks,
        "chunks_done": plan.chunks_done,
        "frames": plan.frames,
        "rejected": [{"uri": r.uri, "code": r.code, "error": r.error} for r in plan.rejected],
        "consistency": plan.consistency,
        "estimate": plan.estimate,
        "warnings": list(plan.warnings),
        "auto": plan.auto,
        "scene_ranges": plan.scene_ranges,
        "provenance": plan.provenance,
    }


def plan_lines(plan: JobPlan) -> list[tuple[str, str]]:
    """Label and value of each line of the table."""
    lines = [
        ("videos", f"{plan.videos}"),
        ("scenes", f"{plan.scenes}"),
        ("knots", "{knots} {placed}, {anchors} of them anchors".format(**plan.consistency)),
        ("chunks", f"{plan.chunks} ({plan.chunks_done} already done)"),
        ("frames", f"{plan.frames}"),
        ("rejected", f"{len(plan.rejected)}"),
    ]
    return lines + [(str(name).replace("_", " "), _shown(value)) for name, value in plan.estimate.items()]


def _shown(value: Any) -> str:
    """A range as its middle and both ends; all else as it is."""
    return "{middle:.3g} ({low:.3g} to {high:.3g})".format(**value) if isinstance(value, dict) else f"{value}"
