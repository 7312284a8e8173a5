"""Whether a style reference moves pictures by attention alone, without the optimal transport of colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.bench.samples import Sample

if TYPE_CHECKING:
    from torch import Tensor

    from operators.models import LatentModel
    from operators.style.style_aligned import StyleReference

#: Side of the crops in pixels, steps of the schedule and the share of them that is walked.
SIDE, STEPS, STRENGTH = 128, 10, 0.6
_CODES = 127.5


def style_rows(model: LatentModel, samples: Sequence[Sample], pairs: int) -> list[dict[str, Any]]:
    """One row per reference that ``pairs`` centre crops are stylized with: none, the crop itself, and a crop
    of another sample, the style.

    ``distance``: Gaussian distance (squared, of latent colours) of the output to the style over that of the
    content; ``from content`` and ``from own``: mean difference in codes of 255.
    """
    import torch

    crops = [_crop(samples[i % len(samples)]) for i in range(pairs)]
    found: dict[str, list[tuple[float, float, float]]] = {}
    with torch.no_grad():
        for i, content in enumerate(crops):
            style = crops[(i + max(1, len(samples) // 2)) % len(crops)]
            made = _stylized(model, content, style)
            for name, picture in made.items():
                found.setdefault(name, []).append(
                    (
                        _distance(model, picture, style) / _distance(model, content, style),
                        float((picture - content).abs().mean()) * _CODES,
                        float((picture - made["own"]).abs().mean()) * _CODES,
                    )
                )
    return [_row(name, np.array(values)) for name, values in found.items()]


def _row(name: str, values: np.ndarray) -> dict[str, Any]:
    distance, moved, apart = values.mean(0)
    return {
        "reference": name,
        "pairs": len(values),
        "distance": round(float(distance), 4),
        "distance_se": round(float(values[:, 0].std(ddof=1) / math.sqrt(len(values))), 4),
        "from content": round(float(moved), 2),
        "from own": round(float(apart), 2),
    }


def _stylized(model: LatentModel, content: Tensor, style: Tensor) -> dict[str, Tensor]:
    import torch

    from operators.attention.install import install
    from operators.attention.policies.base import Unit
    from operators.attention.policies.scene import Independent
    from operators.models import BoundPrior
    from operators.replay import Stage, StyleReading, run_stage
    from operators.solvers.ddim import leading_timesteps
    from operators.style.style_aligned import StyleAligned, style_reference

    timesteps = leading_timesteps(STEPS, strength=STRENGTH)
    own, foreign = (style_reference(x, timesteps, BoundPrior(model)) for x in (content, style))
    references: dict[str, StyleReference | None] = {"own": own, "none": None, "style": foreign}
    made = {}
    with install(model.unet, decoder_only=True) as session:
        prior = BoundPrior(model, listener=session)
        for name, reference in references.items():
            # A weight of nothing: colours are not transported.
            solver = StyleAligned(timesteps, prior, reference or own, None, 0.0)
            reading = None if reference is None else StyleReading(reference, math.log(2), False, False)
            unit = Unit(content, torch.zeros_like(model.encode(content)), (0,))
            stage = Stage(solver, prior, session, reading)
            made[name] = run_stage(stage, [unit], Independent())[0].pictures.clamp(-1, 1)
    return made


def _distance(model: LatentModel, a: Tensor, b: Tensor) -> float:
    from operators.style.transport import gaussian_distance, latent_statistics

    return gaussian_distance(*(latent_statistics(model.encode(x)) for x in (a, b)))


def _crop(sample: Sample) -> Tensor:
    import torch

    frame = sample.frames[:1].astype(np.float32) / np.float32(_CODES) - 1
    top, left = ((side - SIDE) // 2 for side in frame.shape[1:3])
    crop = np.ascontiguousarray(frame[:, top : top + SIDE, left : left + SIDE])
    return torch.from_numpy(crop).permute(0, 3, 1, 2)
