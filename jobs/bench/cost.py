"""`bench cost`: what one look costs, in network FLOPs and in seconds, over frames that share nothing.

FLOPs are counted on the real architectures with the job's own sharing code (`jobs.bench.cost_networks`);
seconds are measured with the embedded model, the default solver and the bundled clip, in turns with the same
job without sharing. One thread does all of it, so its processor time is what a machine without other work
would take, and the target is set for that; time on the wall is shown beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.bench.cost_networks import SD15, SDXL, Counted, SceneCost, closed_form, unit_scene
from jobs.bench.race import Race, race
from jobs.bench.result import BenchResult, Target
from jobs.console import say
from jobs.demo.degrade import NOISE, SCALE, degrade, read_clip
from jobs.demo.demo import TRUTH
from pipeline.enhancer_config import EnhancerConfig, FrameTask
from pipeline.plan import ScenePlan, plan_scene
from pipeline.settings import ConsistencySettings, JobSettings

#: The default may cost this many times what independent frames cost.
ALLOWED_FLOPS, ALLOWED_SECONDS = 1.25, 1.35
#: Knot intervals of a unit, as in jobs, and the steps that trajectories are sized for.
INTERVALS, STEPS = ConsistencySettings().knots_per_chunk, 30
REPEATS = 3

Frames = NDArray[np.uint8]


def run(quick: bool) -> BenchResult:
    """``quick`` counts one frame of every interval where the full run drives all, leaves SDXL out, and times
    half a clip once."""
    plan = unit_scene(INTERVALS)
    networks = {"SD1.5 512": SD15} if quick else {"SD1.5 512": SD15, "SDXL 1024": SDXL}
    rows = []
    for name, config in networks.items():
        network = Counted(config)
        for style in (False, True):
            say(f"{name}{', with style' if style else ''}")
            every = not quick and not style and config is SD15
            cost = network.scene(plan, style=style, every_frame=every)
            rows.append(_counted(name, style, plan, network, cost))
    say("seconds with the embedded model")
    seconds = _seconds(*_race(quick))
    targets = (
        Target(
            "SD1.5 512 without style: FLOPs of independent frames over the default",
            round(1 / rows[0]["ratio"], 4),
            round(1 / ALLOWED_FLOPS, 4),
        ),
        Target(
            "embedded model on CPU: processor time of independent frames over the default",
            round(1 / seconds["ratio of CPU time"], 4),
            round(1 / ALLOWED_SECONDS, 4),
        ),
    )
    return BenchResult("cost", tuple(rows), targets, {"seconds": (seconds,)})


def _counted(
    name: str, style: bool, plan: ScenePlan, network: Counted, cost: SceneCost
) -> dict[str, Any]:
    latent = network.latents(1).numel() * np.dtype(np.float32).itemsize
    return {
        "network": name,
        "style": "yes" if style else "no",
        "frames": cost.frames,
        "knots": len(plan.knots),
        "anchors": len(plan.anchors),
        "TFLOP/frame alone": round(cost.independent_frame / 1e12, 3),
        "bank": round(cost.bank_share, 4),
        "ratio": round(cost.ratio, 4),
        "closed form": round(closed_form(plan, cost.bank_share, style=style), 4),
        f"MiB of anchors, {STEPS} steps": round(len(plan.anchors) * STEPS * latent / 2**20, 2),
    }


def _race(quick: bool) -> tuple[int, int, Race]:
    """Frames, bytes of the scene's anchors, and the default (ours) against independent frames (plain)."""
    from pipeline.enhancer import Enhancer

    small = degrade(read_clip(TRUTH)[1])
    frames = small[: len(small) // 2] if quick else small
    consistency = ConsistencySettings()
    plan = plan_scene(0, 0, len(frames), consistency)
    shared = Enhancer(_config(consistency))
    alone = Enhancer(_config(ConsistencySettings(sharing="none")))
    sent: list[int] = []

    def default() -> None:
        anchors = shared.anchors(_task(plan.anchors), frames[list(plan.anchors)])
        between = tuple(knot for knot in plan.knots if knot not in plan.anchors)
        knots = shared.knots(_task(between), frames[list(between)], anchors) if between else {}
        shared.chunk(_task(range(len(frames))), frames, plan.knots, anchors, knots)
        sent.append(len(anchors))

    def independent() -> None:
        alone.chunk(_task(range(len(frames))), frames, plan.knots, None, {})

    result = race(default, independent, 1 if quick else REPEATS)
    shared.close()
    alone.close()
    return len(frames), sent[0], result


def _seconds(frames: int, anchor_bytes: int, result: Race) -> dict[str, Any]:
    return {
        "model": "embedded",
        "solver": "dpir",
        "frames": frames,
        "s/frame alone": round(result.plain_seconds / frames, 4),
        "s/frame default": round(result.ours_seconds / frames, 4),
        "ratio on the wall": round(result.ratio, 4),
        "ratio of CPU time": round(result.cpu_ratio, 4),
        "kB of anchors": round(anchor_bytes / 1e3, 1),
    }


def _config(consistency: ConsistencySettings) -> EnhancerConfig:
    degradation = {"kind": "super_resolution", "scale": SCALE, "kernel": "area", "noise": NOISE}
    restore = {"restore": {"degradation": degradation, "solver": {"name": "dpir"}}}
    threads = JobSettings("", 0, (), "").torch_threads
    return EnhancerConfig("embedded", "fp32", "cpu", (restore,), consistency, 0, threads)


def _task(ordinals: Any) -> FrameTask:
    return FrameTask("bench cost", 0, tuple(ordinals))
