"""The restorations that `bench restore` asks for, and the classical methods they are measured against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.bench import baselines
from jobs.bench.baselines import Mask, Picture
from jobs.bench.restore_samplers import Pictures, signed, unsigned

if TYPE_CHECKING:
    from operators.degradations.base import ForwardOperator

#: Two holes as shares of the side: left, top, width, height.
HOLES = ((0.15, 0.2, 0.25, 0.16), (0.55, 0.5, 0.1, 0.24))
DENOISE_SIGMA = 0.1


@dataclass(frozen=True)
class Task:
    """``degradation`` as in a job file; ``rivals`` the classical methods by name, each one picture in and its
    candidates out, of which the best counts."""

    name: str
    degradation: dict[str, Any]
    rivals: Mapping[str, Callable[[Picture], list[Picture]]]
    keep: Mask | None = None

    def measured(self, truth: Pictures, operator: ForwardOperator, names: list[str]) -> Pictures:
        """A x + n of pictures [n, h, w, 3] on [0, 1], noise keyed by their names; neither clipped nor
        rounded: the noise that every method assumes."""
        y = operator.apply(signed(truth))
        keys = [("bench restore", self.name, name) for name in names]
        return unsigned(operator.noise_model.sample(y, keys))


def tasks(side: int) -> dict[str, Task]:
    """Short names and tasks for squares of ``side`` pixels, a multiple of 16."""
    return {
        "sr-x2": _enlarging(2),
        "sr-x4": _enlarging(4),
        "deblur": _deblurring(),
        "inpaint": _inpainting(side),
        "denoise": _denoising(),
    }


def _enlarging(scale: int) -> Task:
    degradation = {"kind": "super_resolution", "scale": scale, "kernel": "area", "noise": 0.02}
    rivals = {
        "bicubic": lambda y: [baselines.bicubic(y, scale)],
        "back-projected bicubic": lambda y: [baselines.back_projected(y, scale)],
    }
    return Task(f"SR x{scale}, noise 0.02", degradation, rivals)


def _deblurring() -> Task:
    degradation = {"kind": "deblur", "kernel": "gaussian", "sigma": 1.6, "padding": "reflect", "noise": 0.01}
    rivals = {"nothing": lambda y: [y], "Wiener": _wiener(degradation)}
    return Task("deblur 1.6, noise 0.01", degradation, rivals)


def _wiener(degradation: Mapping[str, Any]) -> Callable[[Picture], list[Picture]]:
    """Wiener-type deconvolution, regularised for several strengths of detail."""

    def candidates(y: Picture) -> list[Picture]:
        from operators.degradations.registry import build_operator, measurement_sigma

        operator = build_operator(degradation, y.shape[0], y.shape[1], {})
        sigma = measurement_sigma(degradation)
        x = signed(y[None])
        return [unsigned(operator.prox(x, x, (detail / sigma) ** 2))[0] for detail in (0.05, 0.1, 0.2, 0.4)]

    return candidates


def _inpainting(side: int) -> Task:
    boxes = [
        [round(left * side), round(top * side), round(width * side), round(height * side)]
        for left, top, width, height in HOLES
    ]
    keep: Mask = np.ones((side, side), np.uint8)
    for left, top, width, height in boxes:
        keep[top : top + height, left : left + width] = 0
    rivals = {
        "TELEA": lambda y: [baselines.telea(y, keep)],
        "Navier-Stokes": lambda y: [baselines.navier_stokes(y, keep)],
    }
    degradation = {"kind": "inpainting", "boxes": boxes, "noise": 0.0}
    return Task("inpaint boxes", degradation, rivals, keep)


def _denoising() -> Task:
    rivals = {
        "nothing": lambda y: [y],
        "NLM": lambda y: baselines.non_local_means(y, DENOISE_SIGMA),
    }
    degradation = {"kind": "denoise", "noise": DENOISE_SIGMA}
    return Task(f"denoise {DENOISE_SIGMA}", degradation, rivals)


def start_of(task: Task, operator: ForwardOperator, measured: Pictures) -> Pictures:
    """The classical restoration that samplers enter from: their worth before the model has seen it."""
    y = operator.restrict(signed(measured))
    return unsigned(operator.classical(y).clamp(-1.0, 1.0))
