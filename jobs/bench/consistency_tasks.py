"""What `bench consistency` does to clips: one stylization and restorations, with and without noise drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.demo.demo import REFERENCE
from jobs.render import Frames

DENOISE_SIGMA, SAMPLE_SIGMA = 0.1, 0.02
_SEED = 5


@dataclass(frozen=True)
class Task:
    """``degrade`` makes a job's source [n, h', w', 3] of the truth [n, h, w, 3]; ``enhance`` is the job's
    list. ``style`` tells whether the look to come near to is the reference's or the truth's.
    ``draws_noise``: the method starts from noise, so that rho means something."""

    name: str
    degrade: Callable[[Frames], Frames]
    enhance: tuple[dict[str, Any], ...]
    style: bool = False
    draws_noise: bool = False


def tasks(quick: bool) -> tuple[Task, ...]:
    """``quick``: fewer steps, and none of the slow posterior samples."""
    both = (_stylize(4 if quick else 10), _denoise())
    return both if quick else (*both, _sample())


def _stylize(steps: int) -> Task:
    method = {
        "name": "style_aligned",
        "steps": steps,
        "shift": math.log(2.0),
        "adain": True,
        "norms": False,
        "statistics": 1.0,
    }
    item = {"reference": str(REFERENCE), "method": method, "prompt": "", "guidance": 1.0}
    item |= {"strength": 0.8, "depth": 0.4}
    return Task("stylize", _unchanged, ({"stylize": item},), style=True)


def _denoise() -> Task:
    item = {"degradation": {"kind": "denoise", "noise": DENOISE_SIGMA}, "solver": {"name": "dpir"}}
    return Task("denoise", lambda clip: _noisy(clip, DENOISE_SIGMA), ({"restore": item},))


def _sample() -> Task:
    """Posterior samples of twice the size: what the noise of a frame decides shows in its picture."""
    degradation = {"kind": "super_resolution", "scale": 2, "kernel": "area", "noise": SAMPLE_SIGMA}
    item = {"degradation": degradation, "solver": {"name": "psld", "steps": 10}}
    return Task(
        "sample x2", lambda clip: _noisy(_halved(clip), SAMPLE_SIGMA), ({"restore": item},), draws_noise=True
    )


def _unchanged(clip: Frames) -> Frames:
    return clip


def _halved(clip: Frames) -> Frames:
    count, height, width, _ = clip.shape
    return clip.reshape(count, height // 2, 2, width // 2, 2, 3).mean(axis=(2, 4), dtype=np.float64)


def _noisy(clip: Frames, sigma: float) -> Frames:
    noise = np.random.Generator(np.random.PCG64(_SEED)).standard_normal(clip.shape)
    return np.rint(np.clip(clip + 255.0 * sigma * noise, 0, 255)).astype(np.uint8)
