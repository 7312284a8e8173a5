"""What a user should know before a job runs, from its settings alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.auto_degradation import LIMITS_OF_AUTO, is_auto, wants_estimate
from pipeline.settings import JobSettings
from pipeline.sharing_policies import sharing_warnings
from pipeline.style_fit import DRAWING, EXACT, content_of
from pipeline.style_strength import schedule_share

if TYPE_CHECKING:
    from pipeline.estimates import Estimate


def job_warnings(settings: JobSettings) -> tuple[str, ...]:
    """A sentence each: a result that depends on the chunking, estimates and their limits, settings that
    change nothing."""
    if not settings.enhance:
        return ()
    auto = (LIMITS_OF_AUTO,) if wants_estimate(settings.enhance) else ()
    idle = _idle_fusion(settings, enumerate(settings.enhance))
    return (*sharing_warnings(settings.consistency), *idle, *_of_contents(settings), *auto)


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


def estimate_warnings(settings: JobSettings, estimate: Estimate | None) -> tuple[str, ...]:
    """A sentence each of one video, whose degradation was estimated: what could not be told, and settings
    that change nothing in what is done to it. None where nothing was to be estimated."""
    if estimate is None:
        return ()
    stages = zip(estimate.enhance.origins, estimate.enhance.items, strict=True)
    found = [(number, item) for number, item in stages if is_auto(settings.enhance[number])]
    return (*estimate.warnings, *_idle_fusion(settings, found))


def _idle_fusion(settings: JobSettings, stages: Iterable[tuple[int, Mapping[str, Any]]]) -> tuple[str, ...]:
    """Estimates are fused in the middle of a stage's steps; a single step has none."""
    if not settings.consistency.fusion:
        return ()
    return tuple(
        f"consistency.fusion has no effect on enhance.{number}{_shown(settings.enhance[number], item)}, "
        "which goes one network step; give it more steps, or set fusion: 0"
        for number, item in stages
        if _goes_one_step(item)
    )


def _shown(asked: Mapping[str, Any], item: Mapping[str, Any]) -> str:
    """What was found where it was asked for."""
    return f" ({item['restore']['degradation']['kind']})" if is_auto(asked) else ""


def _goes_one_step(item: Mapping[str, Any]) -> bool:
    if "stylize" in item:
        style = item["stylize"]
        walked = schedule_share(style["strength"], style.get("depth", 1.0))
        return int(style["method"]["steps"] * walked) <= 1
    solver = item["restore"]["solver"]
    if solver["name"] == "dpir" and "steps" not in solver:
        return bool(item["restore"]["degradation"]["kind"] == "denoise")
    if "steps" not in solver:
        return False
    # Solvers without a strength walk all of their steps.
    return int(solver["steps"] * solver.get("strength", 1.0)) <= 1
