"""`bench style`: how near every method comes to a style, what it leaves of the content, and what it costs.

Clips run through the Enhancer as jobs do, anchors and knots first. The bar for the default: the distance of
colours to the reference falls by half or more, gradient SSIM with the source is at least 0.6, and warp error
at most 1.3 times the source's. A second table walks the strength of the default on one frame, a third
says what a stylization loses by taking pictures of a restoration, not its latent.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.bench.clips import clips_below, first_frames
from jobs.bench.consistency_policies import Clip, Policy, enhancer_of, render_chunks
from jobs.bench.result import BenchResult, Target
from jobs.bench.style_cases import StyleCase, cases
from jobs.bench.style_handover import handover_rows
from jobs.bench.style_scores import bundled_reference, shrunk_square, style_scores
from jobs.console import say
from jobs.demo.demo import TRUTH
from jobs.render import Frames
from pipeline.enhancer_config import FrameTask
from pipeline.errors import SpecError
from pipeline.settings import ConsistencySettings

if TYPE_CHECKING:
    from operators.models import LatentModel
    from pipeline.enhancer import Enhancer

#: The bar of the default: share of the distance that is gone, gradient SSIM, warp error over the source's.
LEAST_FALL, LEAST_CONTENT, MOST_WARP = 0.5, 0.6, 1.3
STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
#: Every so many frames one is compared with the style: no divisor of the interval, or only knots would be.
EVERY = 3
_ALONE = ConsistencySettings(sharing="none")


@dataclass(frozen=True)
class _Size:
    frames: int
    side: int
    interval: int


QUICK, FULL = _Size(9, 96, 4), _Size(17, 128, 8)


def run(quick: bool, pictures: Path | None = None) -> BenchResult:
    """All clips below ``pictures`` (the bundled clip without it); ``quick``: small, and the default alone."""
    from operators.models import LatentModel

    clips = [TRUTH] if pictures is None else clips_below(pictures)
    if not clips:
        raise SpecError(f"--pictures: no clip below {pictures}", field="--pictures")
    size = QUICK if quick else FULL
    compared = cases()[:1] if quick else cases()
    model = LatentModel.from_pretrained("embedded", precision="fp32")
    rows: list[dict[str, Any]] = []
    walk: list[dict[str, Any]] = []
    targets: list[Target] = []
    for path in clips:
        truth = shrunk_square(first_frames(path, size.frames), size.side)
        measured = _measure(path.stem, truth, size.interval, compared, model)
        walked = strength_rows(path.stem, truth[len(truth) // 2], compared[0], model)
        rows += measured
        walk += walked
        targets += [*bar(path.stem, measured[0], measured[1]), *monotone(path.stem, walked)]
    tables = {"strength": tuple(walk), "decoded and encoded again": handover_rows(truth[0])}
    return BenchResult("style", tuple(rows), tuple(targets), tables)


def _measure(
    name: str, truth: Frames, interval: int, compared: tuple[StyleCase, ...], model: LatentModel
) -> list[dict[str, Any]]:
    """The source, then one row per case."""
    how = ConsistencySettings(knot_every=interval, knots_per_chunk=1)
    clip = Clip(name, len(truth), lambda ordinals: truth[list(ordinals)])
    rows = [_row(name, "source", truth, truth, model, None, None)]
    for case in compared:
        say(f"{name}: {case.name}")
        enhancer = _styled(case, how)
        try:
            with evaluations(enhancer) as counted:
                begun = time.process_time()
                made = np.concatenate(list(render_chunks(enhancer, clip, how)))
                seconds = time.process_time() - begun
        finally:
            enhancer.close()
        rows.append(_row(name, case.name, made, truth, model, seconds / len(truth), counted[0] / len(truth)))
    own = rows[0]
    for row in rows:
        row["lab fall"] = round(1 - row["lab"] / own["lab"], 3)
        # A still has no warp error to compare with.
        still = not own["E_warp_x1e3"]
        row["E_warp / source"] = None if still else round(row["E_warp_x1e3"] / own["E_warp_x1e3"], 3)
    return rows


def _styled(case: StyleCase, how: ConsistencySettings) -> Enhancer:
    enhancer = enhancer_of(Policy(how.sharing, {}), case.enhance, how, {})
    enhancer.adopt({0: enhancer.style(0, bundled_reference())})
    return enhancer


def _row(
    clip: str,
    method: str,
    made: Frames,
    truth: Frames,
    model: LatentModel,
    seconds: float | None,
    network: float | None,
) -> dict[str, Any]:
    """One line. ``s/frame`` are CPU seconds of one thread, ``network`` evaluations per frame, both with the
    frame's share of anchors and knots."""
    from operators.metrics.temporal_scores import temporal_scores

    scores = style_scores(model, made[::EVERY], truth[::EVERY], bundled_reference())
    return {
        "clip": clip,
        "method": method,
        "lab": round(scores.lab, 4),
        "lab fall": None,
        "gram": round(scores.gram, 4),
        "grad_ssim": round(scores.gradients, 4),
        "E_warp_x1e3": round(temporal_scores(truth, made).warp_error() * 1e3, 4),
        "E_warp / source": None,
        "s/frame": None if seconds is None else round(seconds, 3),
        "network": None if network is None else round(network, 2),
    }


@contextmanager
def evaluations(enhancer: Enhancer) -> Iterator[list[int]]:
    """Counts latents that went through the network, in the list's only member."""
    counted = [0]

    def count(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        counted[0] += len(args[0] if args else kwargs["sample"])

    hook = enhancer.model.unet.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield counted
    finally:
        hook.remove()


def strength_rows(
    name: str, frame: Frames, case: StyleCase, model: LatentModel
) -> tuple[dict[str, Any], ...]:
    """One frame [h, w, 3] alone, at every strength: distances to the style and the drawing that is left."""
    enhancer = _styled(case, _ALONE)
    rows = []
    try:
        for strength in STRENGTHS:
            items = copy.deepcopy(case.enhance)
            items[0]["stylize"]["strength"] = strength
            task = FrameTask(name, 0, (0,))
            made = enhancer.applying(items, (0,)).chunk(task, frame[None], (0,), None, {})
            scores = style_scores(model, made, frame[None], bundled_reference())
            rows.append(
                {
                    "clip": name,
                    "strength": strength,
                    "lab": round(scores.lab, 4),
                    "gram": round(scores.gram, 4),
                    "grad_ssim": round(scores.gradients, 4),
                }
            )
    finally:
        enhancer.close()
    return tuple(rows)


def bar(name: str, source: dict[str, Any], default: dict[str, Any]) -> list[Target]:
    """The bar of the default on one clip."""
    warp = default["E_warp_x1e3"]
    steady = math.inf if not warp else source["E_warp_x1e3"] / warp
    return [
        Target(f"{name}: share of the distance of colours that is gone", default["lab fall"], LEAST_FALL),
        Target(f"{name}: gradient SSIM with the source", default["grad_ssim"], LEAST_CONTENT),
        Target(f"{name}: warp error of the source over the default's", round(steady, 4), 1 / MOST_WARP),
    ]


def monotone(name: str, walked: tuple[dict[str, Any], ...]) -> list[Target]:
    """That every further strength is nearer to the style and further from the source: least changes."""
    pairs = list(itertools.pairwise(walked))
    nearer = min(left["lab"] - right["lab"] for left, right in pairs)
    further = min(left["grad_ssim"] - right["grad_ssim"] for left, right in pairs)
    return [
        Target(f"{name}: least fall of the style distance by 0.2 of strength", round(nearer, 4), 0.0),
        Target(f"{name}: least fall of gradient SSIM by 0.2 of strength", round(further, 4), 0.0),
    ]
