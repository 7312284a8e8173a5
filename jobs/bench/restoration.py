"""`bench restoration`: DPIR with the embedded model against the classical restoration, in PSNR.

The truth is the bundled clip; each row degrades some of its frames with a known operator and noise and
restores them twice in the same run; a classical method with a free parameter is given its best. The model was
not trained on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.bench.result import BenchResult, Target
from jobs.demo.degrade import psnr, read_clip
from jobs.demo.demo import TRUTH
from pipeline.enhancer_config import EnhancerConfig, FrameTask
from pipeline.settings import ConsistencySettings

Clip = NDArray[np.uint8]
Measured = NDArray[Any]


@dataclass(frozen=True)
class _Case:
    name: str
    degradation: dict[str, Any]
    degrade: Callable[[Clip], Measured]
    classical: Sequence[Callable[[Clip], Clip]]


def run(quick: bool) -> BenchResult:
    """Restore a few frames per case; ``quick`` takes two frames instead of six."""
    from pipeline.enhancer import Enhancer

    clip = read_clip(TRUTH)[1][:: 24 if quick else 8]
    rows: list[dict[str, Any]] = []
    for case in _cases():
        config = EnhancerConfig(
            model="embedded",
            precision="fp32",
            device="cpu",
            enhance=({"restore": {"degradation": case.degradation, "solver": {"name": "dpir"}}},),
            consistency=ConsistencySettings(sharing="none"),
            seed=0,
            torch_threads=1,
        )
        measured = _add_noise(case.degrade(clip), case.degradation["noise"])
        enhancer = Enhancer(config)
        begun = time.monotonic()
        ordinals = tuple(range(len(clip)))
        restored = enhancer.chunk(FrameTask("bench", 0, ordinals), measured, ordinals, None, {})
        seconds = (time.monotonic() - begun) / len(clip)
        enhancer.close()
        before = max(psnr(method(measured), clip) for method in case.classical)
        after = psnr(restored, clip)
        rows.append(
            {
                "case": case.name,
                "frames": len(clip),
                "classical_db": round(before, 2),
                "dpir_db": round(after, 2),
                "gain_db": round(after - before, 2),
                "seconds_per_frame": round(seconds, 2),
            }
        )
    targets = tuple(Target(f"gain of {row['case']} in dB", row["gain_db"], 0.2) for row in rows)
    return BenchResult("restoration", tuple(rows), targets)


def _cases() -> list[_Case]:
    import cv2

    def nothing(clip: Clip) -> Clip:
        return clip

    def blur(clip: Clip) -> Measured:
        return np.stack([cv2.GaussianBlur(f, (0, 0), 1.6, borderType=cv2.BORDER_REFLECT) for f in clip])

    def area(clip: Clip) -> Measured:
        n, h, w, _ = clip.shape
        return clip.reshape(n, h // 2, 2, w // 2, 2, 3).mean(axis=(2, 4), dtype=np.float64)

    def enlarge(clip: Clip) -> Clip:
        size = (clip.shape[2] * 2, clip.shape[1] * 2)
        return np.stack([cv2.resize(f, size, interpolation=cv2.INTER_CUBIC) for f in clip])

    def non_local_means(strength: int) -> Callable[[Clip], Clip]:
        def denoise(clip: Clip) -> Clip:
            return np.stack(
                [cv2.fastNlMeansDenoisingColored(f, None, strength, strength, 5, 15) for f in clip]
            )

        return denoise

    two = {"kind": "super_resolution", "scale": 2, "kernel": "area"}
    return [
        _Case("SR x2, noise 0.02, against bicubic", {**two, "noise": 0.02}, area, [enlarge]),
        _Case("SR x2, noise 0.05, against bicubic", {**two, "noise": 0.05}, area, [enlarge]),
        _Case(
            "denoise 0.1, against NLM at its best strength",
            {"kind": "denoise", "noise": 0.1},
            nothing,
            [non_local_means(strength) for strength in (8, 12, 16, 20, 26)],
        ),
        _Case(
            "deblur 1.6, noise 0.01, against nothing",
            {"kind": "deblur", "kernel": "gaussian", "sigma": 1.6, "padding": "reflect", "noise": 0.01},
            blur,
            [nothing],
        ),
    ]


def _add_noise(clip: Measured, sigma: float) -> Clip:
    noise = np.random.Generator(np.random.PCG64(11)).standard_normal(clip.shape)
    return np.round(np.clip(clip + 255.0 * sigma * noise, 0, 255)).astype(np.uint8)
