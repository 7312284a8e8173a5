"""Every operator at drawn sizes: what the property tests run over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.degradations.blur import BoxBlur, GaussianBlur, KernelBlur
from operators.degradations.clipping import Clipping
from operators.degradations.colorization import Colorization
from operators.degradations.composition import compose
from operators.degradations.denoise import Denoise
from operators.degradations.destriping import Destriping
from operators.degradations.film_damage import dust_masks, scratch_masks
from operators.degradations.flicker import ExposureFlicker, rolling_gains
from operators.degradations.inpainting import Inpainting
from operators.degradations.interlace import Interlace
from operators.degradations.jpeg import Jpeg
from operators.degradations.kernels import anisotropic_gaussian_kernel, disk_kernel, motion_kernel
from operators.degradations.lens_blur import LensBlur
from operators.degradations.masks import mask_from_boxes, random_mask, stripe_mask
from operators.degradations.phase_retrieval import PhaseRetrieval
from operators.degradations.quantisation import Quantisation
from operators.degradations.salt_and_pepper import SaltAndPepper
from operators.degradations.shot_noise import ShotNoise
from operators.degradations.spatiotemporal import SpatioTemporal
from operators.degradations.super_resolution import AreaDownsampling, BicubicDownsampling, CubicSubsampling
from operators.degradations.temporal import (
    TemporalAverage,
    TemporalBlur,
    TemporalSubsampling,
    gaussian_temporal_kernel,
    uniform_temporal_kernel,
)
from operators.degradations.video_inpainting import VideoInpainting


@dataclass(frozen=True)
class Size:
    """A drawn problem: a clip of ``frames`` pictures whose sides are about ``rows`` x ``columns``."""

    frames: int
    rows: int
    columns: int
    seed: int

    def normal(self, purpose: str, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 101 + len(purpose))
        return torch.randn(*shape, dtype=torch.float64, generator=generator)


Build = Callable[[Size], ForwardOperator]


def _film_masks(size: Size) -> np.ndarray:
    ordinals = range(size.seed, size.seed + size.frames)
    key = (size.seed, "test")
    scratches = scratch_masks(ordinals, size.rows, size.columns, 2, key)
    return scratches * dust_masks(ordinals, size.rows, size.columns, 2, key)


def _motion(padding: str) -> Build:
    return lambda s: KernelBlur(s.rows, s.columns, motion_kernel(4.5, 10.0 * s.seed), padding, 0.02)


def _disk(padding: str) -> Build:
    return lambda s: KernelBlur(s.rows, s.columns, disk_kernel(1.7), padding, 0.02)


def _anisotropic(padding: str) -> Build:
    return lambda s: KernelBlur(
        s.rows, s.columns, anisotropic_gaussian_kernel(1.0, 0.5, 10.0 * s.seed), padding, 0.02
    )


LINEAR: dict[str, Build] = {
    "denoise": lambda s: Denoise(s.rows, s.columns),
    "area x2": lambda s: AreaDownsampling(2 * s.rows, 2 * s.columns, 2),
    "area x5": lambda s: AreaDownsampling(5 * s.rows, 5 * s.columns, 5),
    "bicubic x2": lambda s: BicubicDownsampling(2 * s.rows, 2 * s.columns, 2),
    "bicubic x3": lambda s: BicubicDownsampling(3 * s.rows, 3 * s.columns, 3),
    "cubic x2": lambda s: CubicSubsampling(2 * s.rows, 2 * s.columns, 2),
    "cubic x3": lambda s: CubicSubsampling(3 * s.rows, 3 * s.columns, 3),
    "boxes": lambda s: Inpainting(mask_from_boxes([[1, 2, 3, 4], [5, 0, 2, 2]], s.rows, s.columns)),
    "random": lambda s: Inpainting(random_mask(0.5, s.seed, s.rows, s.columns)),
    "stripes": lambda s: Inpainting(stripe_mask(5, 2, s.seed, "vertical", s.rows, s.columns)),
    "film damage": lambda s: VideoInpainting(_film_masks(s)),
    "gaussian reflect": lambda s: GaussianBlur(s.rows, s.columns, 0.6, "reflect", 0.02),
    "gaussian circular": lambda s: GaussianBlur(s.rows, s.columns, 0.6, "circular", 0.02),
    "wide gaussian": lambda s: GaussianBlur(2 * s.rows, 2 * s.columns, 1.6, "reflect", 0.02),
    "box": lambda s: BoxBlur(s.rows, s.columns, 3, "reflect", 0.02),
    "even box": lambda s: BoxBlur(s.rows, s.columns, 4, "circular", 0.02),
    "motion reflect": _motion("reflect"),
    "motion circular": _motion("circular"),
    "disk reflect": _disk("reflect"),
    "disk circular": _disk("circular"),
    "anisotropic reflect": _anisotropic("reflect"),
    "anisotropic circular": _anisotropic("circular"),
    "horizontal destriping": lambda s: Destriping(s.rows, s.columns, "horizontal", 6.0),
    "vertical destriping": lambda s: Destriping(s.rows, s.columns, "vertical", 9.5),
    "colorization": lambda s: Colorization(s.rows, s.columns),
    "salt and pepper": lambda s: SaltAndPepper(s.rows, s.columns, 0.02),
    "shot noise": lambda s: ShotNoise(s.rows, s.columns, 30.0),
    "temporal average": lambda s: TemporalAverage(s.rows, s.columns, s.frames, 3),
    "temporal subsampling": lambda s: TemporalSubsampling(s.rows, s.columns, s.frames, 2),
    "temporal blur replicate": lambda s: TemporalBlur(
        s.rows, s.columns, s.frames, uniform_temporal_kernel(3), "replicate"
    ),
    "temporal blur circular": lambda s: TemporalBlur(
        s.rows, s.columns, s.frames, uniform_temporal_kernel(5), "circular"
    ),
    "temporal gaussian": lambda s: TemporalBlur(
        s.rows, s.columns, s.frames, gaussian_temporal_kernel(0.5), "replicate"
    ),
    "interlace": lambda s: Interlace(s.rows, s.columns, "top"),
    "interlace bottom": lambda s: Interlace(s.rows, s.columns, "bottom"),
    "average and area": lambda s: SpatioTemporal(
        AreaDownsampling(2 * s.rows, 2 * s.columns, 2),
        TemporalAverage(2 * s.rows, 2 * s.columns, s.frames, 2),
    ),
    "temporal blur and bicubic": lambda s: SpatioTemporal(
        BicubicDownsampling(2 * s.rows, 2 * s.columns, 2),
        TemporalBlur(2 * s.rows, 2 * s.columns, s.frames, uniform_temporal_kernel(5), "circular"),
    ),
    "temporal blur and holes": lambda s: SpatioTemporal(
        Inpainting(random_mask(0.5, s.seed, s.rows, s.columns)),
        TemporalBlur(s.rows, s.columns, s.frames, gaussian_temporal_kernel(0.5), "replicate"),
    ),
    "blur then bicubic": lambda s: compose(
        GaussianBlur(2 * s.rows, 2 * s.columns, 0.8, "reflect", 0.0),
        BicubicDownsampling(2 * s.rows, 2 * s.columns, 2),
    ),
    "motion then area": lambda s: compose(
        KernelBlur(2 * s.rows, 2 * s.columns, motion_kernel(4.0, 30.0), "reflect", 0.0),
        AreaDownsampling(2 * s.rows, 2 * s.columns, 2),
    ),
    "interlace then blur": lambda s: compose(
        Interlace(s.rows, s.columns), GaussianBlur(s.rows, s.columns, 0.6, "reflect", 0.0)
    ),
    "stripes then grey": lambda s: compose(
        Destriping(s.rows, s.columns, "vertical", 6.0), Colorization(s.rows, s.columns)
    ),
}

NONLINEAR: dict[str, Build] = {
    "clipping": lambda s: Clipping(s.rows, s.columns, 1.5),
    "quantisation": lambda s: Quantisation(s.rows, s.columns, 6),
    "jpeg 4:4:4": lambda s: Jpeg(8 * (s.rows // 4), 8 * (s.columns // 4), 5 + s.seed, "4:4:4"),
    "jpeg 4:2:0": lambda s: Jpeg(16 * (s.rows // 8), 16 * (s.columns // 8), 5 + s.seed),
    "lens": lambda s: LensBlur(s.rows, s.columns, 0.4, 0.9),
    "phase retrieval": lambda s: PhaseRetrieval(s.rows, s.columns),
    "flicker": lambda s: ExposureFlicker(
        s.columns, rolling_gains(range(s.seed, s.seed + s.frames), s.rows, 0.3, 0.21, 7.0)
    ),
    "area then jpeg": lambda s: compose(
        AreaDownsampling(16 * (s.rows // 4), 16 * (s.columns // 4), 2),
        Jpeg(8 * (s.rows // 4), 8 * (s.columns // 4), 20, "4:4:4"),
    ),
}

EVERY = {**LINEAR, **NONLINEAR}

# Solved by conjugate gradients, to a tolerance.
ITERATIVE = (
    "motion reflect",
    "disk reflect",
    "anisotropic reflect",
    "motion then area",
    "interlace then blur",
    "stripes then grey",
)
# Small singular values are dropped: A A^+ A is A on the rest alone.
TRUNCATED = (
    "wide gaussian",
    "disk circular",
    "anisotropic circular",
    "motion circular",
    "box",
    "even box",
    "temporal blur and bicubic",
    "blur then bicubic",
)


def clip_of(operator: ForwardOperator, size: Size) -> Tensor:
    """Standard normal restored pictures."""
    return size.normal("picture", size.frames, 3, operator.height, operator.width)


def measurement_of(operator: ForwardOperator, size: Size) -> Tensor:
    """Standard normal values in the shape of a measurement."""
    count = operator.measured_frames(size.frames)
    return size.normal("measurement", count, *operator.measured_shape)
