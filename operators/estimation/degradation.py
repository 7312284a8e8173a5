"""Everything estimated from one film, and the restorations it calls for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from operators.estimation.bars import Bars, find_bars
from operators.estimation.blur_width import BlurEstimate, estimate_blur
from operators.estimation.frames import SMALLEST_SIDE
from operators.estimation.noise_level import NoiseEstimate, estimate_noise
from operators.estimation.overlays import Overlays, find_overlays

# Sharp and clean photographs measure up to about this much (mean plus twice the spread over 24 of them).
NOTICEABLE_BLUR = 0.8
NOTICEABLE_NOISE = 3.5 / 255.0
TRUSTED = 0.5


@dataclass(frozen=True)
class DegradationEstimate:
    """Noise, blur, black bars and overlays of one film; see the parts for units. Boxes count from the corner
    of the whole frame."""

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
    return DegradationEstimate(noise, blur, bars, overlays.moved(bars.left, bars.top))


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
