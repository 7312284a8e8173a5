"""What `bench prior` asks of the model and of classical methods on one square sample.

Every task degrades the sample with a known operator and keyed noise, so that a result depends on the sample's
name and size alone, and restores it by each method. A clip's frames are averaged: it is one sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from jobs.bench import baselines
from jobs.bench.baselines import Mask, Picture
from jobs.bench.embedded import Embedded, Pictures
from jobs.bench.samples import Sample
from jobs.bench.scores import Score, best, mean_score, score

#: (task, method) to the mean over the frames of one sample.
Scores = dict[tuple[str, str], Score]

ROUND_TRIP = "round trip"
OURS = "ours"
#: Not a rival but the start of ours, shown so that nobody takes its share for the model's.
START = "the start of ours"
#: Of these numbers of denoising steps the better one, over all samples, is reported as `OURS`.
DENOISE_STEPS = (1, 4)
SIGMAS = (0.1, 0.2)
SCALES = (2, 4)
BOXES = ((40, 40), (24, 60))
SCRATCHES, SCRATCH_POINTS, SCRATCH_WIDTH = 5, 6, 3
#: The side that `BOXES` are meant for; they grow with the picture.
NOMINAL_SIDE = 256

#: Per task the classical methods that the bar is about; the best of them on average counts.
RIVALS: dict[str, tuple[str, ...]] = {
    **{f"denoise {sigma}": ("NLM",) for sigma in SIGMAS},
    **{f"SR x{scale}": ("back-projected bicubic",) for scale in SCALES},
    "boxes": ("TELEA", "Navier-Stokes"),
    "scratches": ("TELEA", "Navier-Stokes"),
}


def measure(sample: Sample, model: Embedded) -> Scores:
    """All tasks on one square sample."""
    truth = sample.frames.astype(np.float32) / np.float32(255.0)
    scores = {(ROUND_TRIP, OURS): _score(model.round_trip(truth), truth)}
    for sigma in SIGMAS:
        scores |= _denoise(sample, truth, sigma, model)
    for scale in SCALES:
        scores |= _super_resolution(truth, scale, model)
    for task, draw in (("boxes", _boxes), ("scratches", _scratches)):
        scores |= _inpainting(task, truth, draw(sample), model)
    return scores


def better_denoising(scores: Iterable[Scores]) -> int:
    """Of `DENOISE_STEPS` the number with the higher mean PSNR over samples and noise levels."""
    every = list(scores)

    def quality(steps: int) -> float:
        return mean_score([s[_denoising(sigma), _steps(steps)] for s in every for sigma in SIGMAS]).psnr

    return max(DENOISE_STEPS, key=quality)


def with_denoising(scores: Scores, steps: int) -> Scores:
    """The scores with those of ``steps`` denoising steps repeated as `OURS`."""
    tasks = [_denoising(sigma) for sigma in SIGMAS]
    return scores | {(task, OURS): scores[task, _steps(steps)] for task in tasks}


def _denoising(sigma: float) -> str:
    return f"denoise {sigma}"


def _steps(steps: int) -> str:
    return f"{OURS}, {steps} step{'s' if steps > 1 else ''}"


def _denoise(sample: Sample, truth: Pictures, sigma: float, model: Embedded) -> Scores:
    task = _denoising(sigma)
    # Neither clipped nor quantised: the white noise that every method here assumes.
    noisy = truth + np.float32(sigma) * _noise(sample, truth, sigma)
    scores = {
        (task, "median"): _best_of(baselines.median, noisy, truth),
        (task, "NLM"): _best_of(lambda f: baselines.non_local_means(f, sigma), noisy, truth),
    }
    # Most of an hour for two dozen pictures of 512 px.
    if baselines.has_bm3d() and truth.shape[1] <= NOMINAL_SIDE:
        scores[task, "BM3D"] = _score([baselines.bm3d(frame, sigma) for frame in noisy], truth)
    for steps in DENOISE_STEPS:
        solver = {"name": "dpir", "steps": steps}
        restored = model.restore(noisy, {"kind": "denoise", "noise": sigma}, {}, solver)
        scores[task, _steps(steps)] = _score(restored, truth)
    return scores


def _super_resolution(truth: Pictures, scale: int, model: Embedded) -> Scores:
    task = f"SR x{scale}"
    small = np.stack([baselines.block_means(frame, scale) for frame in truth])
    degradation = {"kind": "super_resolution", "scale": scale, "kernel": "area"}
    classical = {
        "bicubic": baselines.bicubic,
        "Lanczos": baselines.lanczos,
        "back-projected bicubic": baselines.back_projected,
    }
    scores = {
        (task, name): _score([method(frame, scale) for frame in small], truth)
        for name, method in classical.items()
    }
    scores[task, OURS] = _score(model.restore(small, degradation, {}, {"name": "dpir"}), truth)
    return scores


def _inpainting(task: str, truth: Pictures, keep: Mask, model: Embedded) -> Scores:
    measured = truth * (keep[..., None] != 0)
    classical = {"TELEA": baselines.telea, "Navier-Stokes": baselines.navier_stokes}
    scores = {
        (task, name): _score([method(frame, keep) for frame in measured], truth, keep)
        for name, method in classical.items()
    }
    scores[task, START] = _score(model.start_in_holes(measured, keep), truth, keep)
    restored = model.restore(measured, {"kind": "inpainting"}, {"mask": keep}, {"name": "dpir"})
    scores[task, OURS] = _score(restored, truth, keep)
    return scores


def _score(results: Sequence[Picture] | Pictures, truth: Pictures, keep: Mask | None = None) -> Score:
    return mean_score([score(result, frame, keep) for result, frame in zip(results, truth, strict=True)])


def _best_of(method: Callable[[Picture], list[Picture]], noisy: Pictures, truth: Pictures) -> Score:
    return _score([best(method(y), frame) for y, frame in zip(noisy, truth, strict=True)], truth)


def _noise(sample: Sample, truth: Pictures, sigma: float) -> Pictures:
    from operators.noise import keyed_normal

    key = ("bench prior", "noise", sample.name, truth.shape[1], str(sigma))
    noise: Pictures = keyed_normal(truth.shape, *key).numpy()
    return noise


def _boxes(sample: Sample) -> Mask:
    """Keep-mask with one hole per entry of `BOXES` at keyed places."""
    import torch

    from operators.noise import keyed_generator

    side = sample.frames.shape[1]
    generator = keyed_generator("bench prior", "boxes", sample.name, side)
    keep: Mask = np.ones((side, side), np.uint8)
    for height, width in BOXES:
        h, w = height * side // NOMINAL_SIDE, width * side // NOMINAL_SIDE
        top = int(torch.randint(0, side - h + 1, (), generator=generator))
        left = int(torch.randint(0, side - w + 1, (), generator=generator))
        keep[top : top + h, left : left + w] = 0
    return keep


def _scratches(sample: Sample) -> Mask:
    """Keep-mask with keyed random polylines; their length grows with the picture, their width does not."""
    import cv2
    import torch

    from operators.noise import keyed_generator

    side = sample.frames.shape[1]
    generator = keyed_generator("bench prior", "scratches", sample.name, side)
    keep: Mask = np.ones((side, side), np.uint8)
    for _ in range(SCRATCHES):
        start = torch.randint(0, side, (1, 2), generator=generator)
        strides = torch.randint(-(side // 5), side // 5 + 1, (SCRATCH_POINTS - 1, 2), generator=generator)
        points = torch.cat([start, strides]).cumsum(0).numpy().astype(np.int32)
        cv2.polylines(keep, [points.reshape(-1, 1, 2)], False, 0, SCRATCH_WIDTH)
    return keep
