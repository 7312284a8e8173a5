"""One example of every forward operator, and the solver that undoes it on its sheet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

#: (height, width, frames) to an operator of `operators.degradations` with its noise.
Build = Callable[[int, int, int], Any]
DPIR = {"name": "dpir"}
#: Where the prox is known and the degradation is not linear.
DIFFPIR = {"name": "diffpir", "steps": 30, "strength": 0.2}
LDPS = {"name": "ldps", "steps": 50, "strength": 0.3, "last_fit": True}


@dataclass(frozen=True)
class SheetCase:
    """``frames``: how many go through the operator together; one where it treats them alone."""

    build: Build
    solver: dict[str, Any] = field(default_factory=lambda: DPIR)
    frames: int = 1


def cases() -> dict[str, SheetCase]:
    """By name of the sheet."""
    return {name: SheetCase(_from_job(given), solver) for name, (given, solver) in _OF_JOBS.items()} | {
        name: SheetCase(build, solver, frames=_CLIP) for name, (build, solver) in _OF_CLIPS.items()
    }


_CLIP = 8
_X2 = {"kind": "super_resolution", "scale": 2}
_OF_JOBS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "denoise": ({"kind": "denoise", "noise": 0.1}, DPIR),
    "shot_noise": ({"kind": "shot_noise", "peak": 30.0}, DPIR),
    "salt_and_pepper": ({"kind": "salt_and_pepper", "fraction": 0.1}, DPIR),
    "super_resolution_area": ({**_X2, "noise": 0.02}, DPIR),
    "super_resolution_bicubic": ({**_X2, "scale": 4, "kernel": "bicubic", "noise": 0.01}, DPIR),
    "inpainting_boxes": ({"kind": "inpainting", "boxes": [[24, 30, 18, 30], [96, 60, 40, 14]]}, DPIR),
    "inpainting_random": ({"kind": "inpainting", "random": {"share": 0.6}, "noise": 0.02}, DPIR),
    "inpainting_stripes": ({"kind": "inpainting", "stripes": {"period": 12, "width": 3}}, DPIR),
    "deblur_gaussian": ({"kind": "deblur", "kernel": "gaussian", "sigma": 1.6, "noise": 0.01}, DPIR),
    "deblur_anisotropic": (
        {"kind": "deblur", "kernel": "anisotropic", "sigma": 3.0, "sigma_across": 0.8, "angle": 30.0,
         "noise": 0.01},
        DPIR,
    ),
    "deblur_motion": (
        {"kind": "deblur", "kernel": "motion", "length": 11.0, "angle": 20.0, "noise": 0.01},
        DPIR,
    ),
    "deblur_disk": ({"kind": "deblur", "kernel": "disk", "radius": 3.0, "noise": 0.01}, DPIR),
    "deblur_box": ({"kind": "deblur", "kernel": "box", "side": 5, "noise": 0.01}, DPIR),
    "deblur_lens": (
        {"kind": "deblur", "kernel": "lens", "sigma": 0.7, "sigma_edge": 2.5, "noise": 0.01},
        {**LDPS, "name": "dps_nojac", "strength": 0.2},
    ),
    "composition": (
        {
            "kind": "composition",
            "parts": [{"kind": "deblur", "kernel": "gaussian", "sigma": 1.2}, _X2],
            "noise": 0.01,
        },
        DPIR,
    ),
    "colorization": ({"kind": "colorization", "noise": 0.01}, DPIR),
    "jpeg": ({"kind": "jpeg", "quality": 15}, DPIR),
    "quantisation": ({"kind": "quantisation", "levels": 6}, DPIR),
    "clipping": ({"kind": "clipping", "gain": 2.0, "noise": 0.01}, LDPS),
}  # fmt: skip


def _from_job(degradation: dict[str, Any]) -> Build:
    def build(height: int, width: int, frames: int) -> Any:
        from operators.degradations.registry import build_operator

        return build_operator(degradation, height, width, {})

    return build


def _noisy(operator: Any, sigma: float) -> Any:
    from operators.degradations.noise_models import GaussianNoise

    return operator.with_noise(GaussianNoise(sigma))


def _destriping(height: int, width: int, frames: int) -> Any:
    """Row offsets are what the operator does not see: they are drawn by the sheet itself."""
    from operators.degradations.destriping import Destriping

    return _noisy(Destriping(height, width), 0.02)


def _film_damage(height: int, width: int, frames: int) -> Any:
    from operators.degradations.film_damage import dust_masks, scratch_masks
    from operators.degradations.video_inpainting import VideoInpainting

    key = ("bench sheets",)
    ordinals = range(frames)
    scratches = scratch_masks(ordinals, height, width, 4, key)
    return VideoInpainting(scratches * dust_masks(ordinals, height, width, 6, key))


def _temporal_blur(height: int, width: int, frames: int) -> Any:
    from operators.degradations.temporal import TemporalBlur, uniform_temporal_kernel

    return _noisy(TemporalBlur(height, width, frames, uniform_temporal_kernel(5)), 0.02)


def _temporal_average(height: int, width: int, frames: int) -> Any:
    from operators.degradations.temporal import TemporalAverage

    return _noisy(TemporalAverage(height, width, frames, 2), 0.02)


def _temporal_subsampling(height: int, width: int, frames: int) -> Any:
    from operators.degradations.temporal import TemporalSubsampling

    return TemporalSubsampling(height, width, frames, 2)


def _spatiotemporal(height: int, width: int, frames: int) -> Any:
    from operators.degradations.spatiotemporal import SpatioTemporal
    from operators.degradations.super_resolution import AreaDownsampling
    from operators.degradations.temporal import TemporalBlur, uniform_temporal_kernel

    temporal = TemporalBlur(height, width, frames, uniform_temporal_kernel(3))
    return _noisy(SpatioTemporal(AreaDownsampling(height, width, 2), temporal), 0.02)


def _flicker(height: int, width: int, frames: int) -> Any:
    from operators.degradations.flicker import ExposureFlicker, rolling_gains

    return _noisy(ExposureFlicker(width, rolling_gains(range(frames), height, 0.3, 0.37, 60.0)), 0.04)


def _interlace(height: int, width: int, frames: int) -> Any:
    from operators.degradations.interlace import Interlace

    return Interlace(height, width)


_OF_CLIPS: dict[str, tuple[Build, dict[str, Any]]] = {
    "destriping": (_destriping, DPIR),
    "film_damage": (_film_damage, DPIR),
    "temporal_blur": (_temporal_blur, DPIR),
    "temporal_average": (_temporal_average, DPIR),
    "temporal_subsampling": (_temporal_subsampling, DPIR),
    "spatiotemporal": (_spatiotemporal, DPIR),
    "flicker": (_flicker, DIFFPIR),
    "interlace": (_interlace, DPIR),
}
