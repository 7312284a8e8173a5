"""`bench inversion`: how near each inversion comes back, and what it costs, with the embedded model.

Every method inverts and samples with the same prior and no prompt, on frames of the bundled clip; error is
the relative L2 distance of the recovered clean latents. Three precisions: all float32; a bf16 network under
float32 latents and schedule; latents in bf16 as well. Only methods that replay stored states keep their
exactness with a half-precision network. PSNR is that of the decoded float32 round trip; the autoencoder
alone is its ceiling.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from jobs.bench.inversion_methods import LatentSpace, Method, methods
from jobs.bench.result import BenchResult, Target
from jobs.bench.samples import Sample, evenly
from jobs.console import say
from jobs.demo.degrade import psnr, read_clip
from jobs.demo.demo import TRUTH

if TYPE_CHECKING:
    from torch import Tensor

    from operators.models import LatentModel

SIDE, FRAMES, STEPS = 128, 2, 50
QUICK_SIDE, QUICK_FRAMES, QUICK_STEPS = 64, 1, 10
#: Digits are reported no finer than this: a difference of nothing.
_ALL_DIGITS = 16.0

_Errors = dict[str, float]


def run(quick: bool) -> BenchResult:
    """``quick``: one small frame, ten steps, and without the method that optimises."""
    frames = _frames(QUICK_FRAMES, QUICK_SIDE) if quick else _frames(FRAMES, SIDE)
    steps = QUICK_STEPS if quick else STEPS
    rows: dict[str, dict[str, Any]] = {}
    digits: dict[str, _Errors] = {}
    known: list[Method] = []
    for column, network, latents in (
        ("float32", "fp32", "fp32"),
        ("bf16 network", "bf16", "fp32"),
        ("bf16 latents too", "bf16", "bf16"),
    ):
        known = _measure(column, network, latents, frames, steps, quick, rows, digits)
    targets = [
        Target(f"{method.name}, {column}: digits kept", round(digits[method.name][column], 2), bound)
        for method in known
        for column, bound in (("float32", method.digits), ("bf16 network", method.half_digits))
        if bound is not None
    ]
    return BenchResult("inversion", tuple(rows.values()), tuple(targets))


def _measure(
    column: str,
    network: str,
    latents: str,
    frames: Sample,
    steps: int,
    quick: bool,
    rows: dict[str, dict[str, Any]],
    digits: dict[str, _Errors],
) -> list[Method]:
    """Adds one precision to ``rows`` and ``digits``."""
    import torch

    from operators.attention.install import install
    from operators.models import BoundPrior, LatentModel
    from operators.pictures import to_tensor
    from operators.solvers.ddim import leading_timesteps
    from operators.solvers.evaluations import CountingPrior

    model = LatentModel.from_pretrained("embedded", precision=network)
    timesteps = leading_timesteps(steps)
    with install(model.unet) as session:
        known = methods(model, session, timesteps, quick)
        clean = model.encode(to_tensor(frames.frames, "cpu"))
        z0 = clean.to(torch.bfloat16 if latents == "bf16" else torch.float32)
        for method in known:
            say(f"{column}: {method.name}")
            prior = CountingPrior(LatentSpace(BoundPrior(model, listener=session)))
            found = method.run(z0, prior).float()
            error = float((found - clean).norm() / clean.norm())
            row = rows.setdefault(method.name, _row(method, model, found, frames, prior.evaluations))
            row[f"error, {column}"] = f"{error:.1e}"
            digits.setdefault(method.name, {})[column] = _digits(error)
    return known


def _row(
    method: Method, model: LatentModel, found: Tensor, frames: Sample, evaluations: Any
) -> dict[str, Any]:
    import numpy as np

    from operators.pictures import to_pictures

    decoded = to_pictures(model.decode(found).clamp(-1, 1), np.dtype(np.uint8))
    return {
        "method": method.name,
        "evaluations/frame": evaluations.forward / len(found),
        "backward/frame": evaluations.backward / len(found),
        "PSNR dB": round(psnr(decoded, frames.frames), 2),
    }


def _digits(error: float) -> float:
    return min(_ALL_DIGITS, -math.log10(error)) if error > 0 else _ALL_DIGITS


def _frames(count: int, side: int) -> Sample:
    clip = read_clip(TRUTH)[1]
    picked = evenly(range(len(clip)), count)
    square = Sample("bundled clip", clip[list(picked)], is_clip=True).square_up_to(side)
    assert square is not None
    return square
