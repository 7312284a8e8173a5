"""What a planned job will take and cost, from a calibration: a range, since measurements scatter."""

from __future__ import annotations

from functools import reduce
from typing import Any

from pipeline.calibration import ACTOR_STAGES, TASK_STAGES, ZERO, Calibration, Span, Work
from pipeline.job_plan import JobPlan
from pipeline.settings import JobSettings
from pipeline.video_planner import growth

_HOUR = 3600.0


def work_left(plan: JobPlan, settings: JobSettings) -> Work:
    """What ``plan`` says is left. References are taken as large as the mean frame; each is one of the frames
    that are left, and computed once."""
    frames = plan.estimate["frames_left"]
    megapixels = plan.estimate["output_pixels_left"] / 1e6
    references = megapixels * min(1.0, plan.estimate["references_left"] / frames) if frames else 0.0
    scale = growth(settings)
    return Work(megapixels / scale**2, references, megapixels - references, plan.chunks - plan.chunks_done)


def predicted(
    plan: JobPlan, settings: JobSettings, calibration: Calibration, price: float | None
) -> dict[str, Any]:
    """Hours of actors and of the tasks beside them, and with a ``price`` per GPU and hour (per actor and hour
    on CPUs) what the actors' cost: {"low", "middle", "high"} each, rounded to six digits.

    One actor computes one unit at a time, however many there are; start-up, indexing, publishing and idle
    actors are not in it.
    """
    seconds = work_left(plan, settings).seconds(calibration)
    actors = _hours([seconds[stage] for stage in ACTOR_STAGES])
    tasks = _hours([seconds[stage] for stage in TASK_STAGES])
    on_gpus = calibration.device == "cuda"
    devices = actors.times(settings.cluster.gpus_per_actor) if on_gpus else actors
    found = {"device": calibration.device, "actor_hours": _told(actors), "task_hours": _told(tasks)}
    if on_gpus:
        found["gpu_hours"] = _told(devices)
    if price is not None:
        found["price"] = _told(devices.times(price))
    return found


def _hours(spans: list[Span]) -> Span:
    return reduce(Span.plus, spans, ZERO).times(1.0 / _HOUR)


def _told(span: Span) -> dict[str, float]:
    return {"low": round(span.low, 6), "middle": round(span.middle, 6), "high": round(span.high, 6)}
