"""Everything estimated from one film, and the restorations it calls for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from operators.estimation.bars import Bars, find_bars
from operators.estimation.blur_width import BlurEstimate, estimate_blur
from operators.estimation.frames import SMALLEST_SIDE
from operators.estimation.noise_level import NoiseEstimate, estimate_noise
from operators.estimation.overlays import FEWEST_FRAMES, MOVING_SHARE, Overlays, find_overlays

# Sharp and clean photographs measure up to about this much (mean plus twice the spread over 24 of them).
NOTICEABLE_BLUR = 0.8
NOTICEABLE_NOISE = 3.5 / 255.0
TRUSTED = 0.5
# A level that differs so much between frames, as a share of itself, is that of no whole film.
UNEVEN = 0.5


@dataclass(frozen=True)
class DegradationEstimate:
    """Noise, blur, black bars and overlays of one film, seen in ``frames`` frames; see the parts for units.
    Boxes count from the corner of the whole frame."""

    frames: int
    noise: NoiseEstimate
    blur: BlurEstimate
    bars: Bars
    overlays: Overlays


def estimate_degradation(frames: np.ndarray) -> DegradationEstimate:
    """Estimates from frames uint8 or uint16 [N, H, W, 3] taken from all over a film.

    Noise and blur are those of the film itself, inside its bars and outside its overlays. Deterministic; the
    order of frames does not matter. Raises OperatorError for another shape or type.
    """
    bars = find_bars(frames)
    if min(bars.crop(frames).shape[1:3]) < SMALLEST_SIDE:
        bars = Bars()
    film = bars.crop(frames)
    overlays = find_overlays(film, estimate_noise(film).sigma)
    keep = overlays.keep(*film.shape[1:3])
    noise = estimate_noise(film, keep)
    blur = estimate_blur(film, noise.sigma, keep)
    return DegradationEstimate(len(frames), noise, blur, bars, overlays.moved(bars.left, bars.top))


def suggested_degradations(estimate: DegradationEstimate) -> tuple[dict[str, Any], ...]:
    """``degradation`` mappings of a job file, one per restoration and in the order to apply them.

    Trusted boxes are inpainted; then noticeable blur is undone together with the noise, or noise alone. Empty
    when nothing stands out.
    """
    noise = round(min(estimate.noise.sigma, 0.99), 4)
    stages: list[dict[str, Any]] = []
    if estimate.overlays.boxes and estimate.overlays.confidence >= TRUSTED:
        boxes = [list(box) for box in estimate.overlays.boxes]
        stages.append({"kind": "inpainting", "boxes": boxes, "noise": noise})
    if estimate.blur.sigma >= NOTICEABLE_BLUR and estimate.blur.confidence >= TRUSTED:
        sigma = round(estimate.blur.sigma, 2)
        stages.append({"kind": "deblur", "kernel": "gaussian", "sigma": sigma, "noise": noise})
    elif noise >= NOTICEABLE_NOISE:
        stages.append({"kind": "denoise", "noise": noise})
    return tuple(stages)


def undecided(estimate: DegradationEstimate) -> tuple[str, ...]:
    """What the frames do not tell, a sentence each: nothing of it is in `suggested_degradations`."""
    told = (*_undecided_noise(estimate.noise), *_undecided_blur(estimate.blur))
    return (*told, *_undecided_overlays(estimate.overlays, estimate.frames))


def _undecided_noise(noise: NoiseEstimate) -> tuple[str, ...]:
    if noise.confidence == 0.0:
        return ("noise: too few places are clear of black and white to tell its level; none was assumed",)
    if noise.sigma >= NOTICEABLE_NOISE and noise.spread > UNEVEN * noise.sigma:
        return (
            f"noise: its level varies between frames, {noise.sigma:.3f} with a spread of {noise.spread:.3f}; "
            "the median was taken",
        )
    return ()


def _undecided_blur(blur: BlurEstimate) -> tuple[str, ...]:
    if blur.confidence == 0.0:
        return ("blur: too few edges to tell its width; none was assumed",)
    if blur.sigma >= NOTICEABLE_BLUR and blur.confidence < TRUSTED:
        return (
            f"blur: edges disagree (about {blur.sigma:.1f} pixels, confidence {blur.confidence:.2f}); it was "
            "left as it is",
        )
    return ()


def _undecided_overlays(overlays: Overlays, frames: int) -> tuple[str, ...]:
    if frames < FEWEST_FRAMES:
        return (f"overlays: {frames} frames are too few to see what never changes; at least {FEWEST_FRAMES}",)
    if overlays.moving < MOVING_SHARE:
        return (
            f"overlays: only {overlays.moving:.0%} of the picture moves, so a logo cannot be told from what "
            "stands still",
        )
    if overlays.boxes and overlays.confidence < TRUSTED:
        boxes = ", ".join(str(list(box)) for box in overlays.boxes)
        return (f"overlays: {boxes} may stand still by chance; they were left as they are",)
    return ()
