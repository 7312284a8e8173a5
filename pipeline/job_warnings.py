"""What a user should know before a job runs, from its settings alone."""

from __future__ import annotations

from typing import Any

from pipeline.auto_degradation import LIMITS_OF_AUTO, wants_estimate
from pipeline.settings import JobSettings
from pipeline.sharing_policies import sharing_warnings
from pipeline.style_fit import DRAWING, EXACT, content_of

#: Solvers that walk all of their ``steps``; others walk the last ``strength`` of them.
_WHOLE_SCHEDULE = ("dpir", "latino")


def job_warnings(settings: JobSettings) -> tuple[str, ...]:
    """A sentence each: a result that depends on the chunking, estimates and their limits, settings that
    change nothing."""
    if not settings.enhance:
        return ()
    auto = (LIMITS_OF_AUTO,) if wants_estimate(settings.enhance) else ()
    return (
        *sharing_warnings(settings.consistency),
        *_idle_fusion(settings),
        *_of_contents(settings),
        *auto,
    )


def _of_contents(settings: JobSettings) -> tuple[str, ...]:
    """Edits that add noise at every step flicker where frames draw their own; some are exact in float32
    alone."""
    rho, told = settings.consistency.rho, []
    for number, item in enumerate(settings.enhance):
        content = content_of(item["stylize"]) if "stylize" in item else None
        if content is None:
            continue
        name, where = content["name"], f"enhance.{number}.stylize.content"
        if name in DRAWING and rho < 1.0:
            told.append(
                f"{where}: {name} draws noise at every step, and with consistency.noise.rho {rho:g} frames "
                "of a scene draw differently and may flicker; rho: 1 shares it"
            )
        if name in EXACT and settings.precision != "fp32":
            told.append(
                f"{where}: {name} is exact with precision fp32 alone, and this job says "
                f"{settings.precision}; auto takes bf16 on GPUs"
            )
    return tuple(told)


def _idle_fusion(settings: JobSettings) -> tuple[str, ...]:
    """Estimates are fused in the middle of a stage's steps; a single step has none."""
    if not settings.consistency.fusion:
        return ()
    return tuple(
        f"consistency.fusion has no effect on enhance.{number}, which goes one network step; give it more "
        "steps, or set fusion: 0"
        for number, item in enumerate(settings.enhance)
        if _goes_one_step(item)
    )


def _goes_one_step(item: dict[str, Any]) -> bool:
    if "stylize" in item:
        steps, strength = item["stylize"]["method"]["steps"], item["stylize"]["strength"]
        return int(steps * strength) <= 1
    solver = item["restore"]["solver"]
    if solver["name"] == "dpir" and "steps" not in solver:
        return bool(item["restore"]["degradation"]["kind"] == "denoise")
    if "steps" not in solver:
        return False
    strength = 1.0 if solver["name"] in _WHOLE_SCHEDULE else solver["strength"]
    return int(solver["steps"] * strength) <= 1
