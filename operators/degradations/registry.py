"""From the ``degradation`` mapping of a job to a forward operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from operators.degradations.base import ForwardOperator
from operators.degradations.blur import BoxBlur, GaussianBlur, KernelBlur
from operators.degradations.clipping import Clipping
from operators.degradations.colorization import MEAN_WEIGHTS, Colorization
from operators.degradations.composition import compose
from operators.degradations.denoise import Denoise
from operators.degradations.destriping import Destriping
from operators.degradations.flicker import ExposureFlicker, rolling_gains
from operators.degradations.inpainting import Inpainting
from operators.degradations.jpeg import Jpeg, block_side
from operators.degradations.kernels import (
    anisotropic_gaussian_kernel,
    disk_kernel,
    motion_kernel,
)
from operators.degradations.lens_blur import LensBlur
from operators.degradations.masks import mask_from_boxes, random_mask, stripe_mask
from operators.degradations.noise_models import GaussianNoise, ImpulseNoise, NoiseModel, PoissonNoise
from operators.degradations.quantisation import Quantisation
from operators.degradations.salt_and_pepper import SaltAndPepper
from operators.degradations.shot_noise import ShotNoise
from operators.degradations.super_resolution import AreaDownsampling, BicubicDownsampling, CubicSubsampling
from operators.degradations.temporal import WindowBlur, uniform_temporal_kernel
from operators.degradations.video_inpainting import VideoInpainting
from operators.errors import OperatorError
from operators.luma import LUMA_WEIGHTS

Spec = Mapping[str, Any]
Assets = Mapping[str, np.ndarray]


def build_operator(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    """The operator of ``spec`` for restored pictures of ``height`` x ``width`` pixels.

    ``spec["kind"]`` is one of

    * ``denoise``; ``shot_noise`` (``peak`` photons of white); ``salt_and_pepper`` (``fraction`` hit);
    * ``super_resolution`` (``scale``, ``kernel`` area | bicubic | cubic);
    * ``inpainting``: ``boxes`` [[x, y, w, h], ...], ``random`` {share, seed}, ``stripes`` {period, width,
      offset, orientation}, else ``assets["mask"]`` uint8, 0 = hole: (H, W), or (T, H, W) with one mask for
      each frame of a batch;
    * ``deblur`` (``padding`` reflect | circular, ``kernel`` gaussian with ``sigma`` | anisotropic with
      ``sigma``, ``sigma_across``, ``angle`` | motion with ``length``, ``angle`` | disk with ``radius`` |
      box with ``side`` | lens with ``sigma``, ``sigma_edge``); ``assets["kernel"]`` float (k, k) stands
      for motion, anisotropic and disk;
    * ``destriping`` (``orientation``, ``longest_period``); ``colorization`` (``weights`` luma | mean);
    * ``jpeg`` (``quality``, ``chroma`` 4:2:0 | 4:4:4); ``quantisation`` (``levels``); ``clipping``
      (``gain``);
    * ``flicker`` (``depth``, ``cycles_per_frame``, ``rows_per_cycle``, ``phase``) of the frames
      ``assets["ordinals"]`` int (T,), of whose padded rows the first ``assets["rows"]`` are the picture's;
    * ``temporal_blur`` (``taps``, odd) of the frames ``assets["ordinals"]``; ``assets["open_ends"]`` says
      whether their clip goes on before and after them;
    * ``composition`` (``parts``, degradations in the order in which they happened).

    ``noise``: standard deviation on [0, 1] of what else there is. Raises OperatorError naming the field
    when the mapping or the mask cannot be used.
    """
    kind = _required(spec, "kind")
    if kind not in _BUILDERS:
        kinds = ", ".join(sorted(_BUILDERS))
        raise OperatorError(f"degradation.kind: {kind!r} is unknown; use one of {kinds}")
    return _BUILDERS[kind](spec, height, width, assets).with_noise(noise_model(spec))


def noise_model(spec: Spec) -> NoiseModel:
    """How measurements of ``spec`` scatter; its ``noise`` is on [0, 1], the model on [-1, 1]."""
    rest = GaussianNoise(2.0 * float(spec.get("noise", 0.0)))
    if spec.get("kind") == "shot_noise":
        return PoissonNoise(float(_required(spec, "peak")))
    if spec.get("kind") == "salt_and_pepper":
        return ImpulseNoise(float(_required(spec, "fraction")), rest.sigma)
    return rest


def side_multiple(spec: Spec) -> int:
    """Sides of the pictures of ``spec`` are multiples of it: the blocks of JPEG, else 1."""
    return block_side(spec.get("chroma", "4:2:0")) if spec.get("kind") == "jpeg" else 1


def measurement_sigma(spec: Spec) -> float:
    """Noise standard deviation on [-1, 1]: twice the ``noise`` of the spec, which is on [0, 1]; that of
    mid-grey for shot noise."""
    return noise_model(spec).sigma


def _denoise(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    return Denoise(height, width)


def _shot_noise(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    return ShotNoise(height, width, float(_required(spec, "peak")))


def _salt_and_pepper(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    return SaltAndPepper(height, width, float(_required(spec, "fraction")))


def _super_resolution(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    kernel = spec.get("kernel", "area")
    scale = int(_required(spec, "scale"))
    kinds = {"area": AreaDownsampling, "bicubic": BicubicDownsampling, "cubic": CubicSubsampling}
    if kernel not in kinds:
        raise OperatorError(
            f"degradation.kernel: {kernel!r} is no super_resolution kernel; use area, bicubic or cubic"
        )
    return kinds[kernel](height, width, scale)


def _inpainting(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    if spec.get("boxes"):
        return Inpainting(mask_from_boxes(spec["boxes"], height, width))
    if spec.get("random"):
        random = spec["random"]
        return Inpainting(random_mask(float(random["share"]), int(random.get("seed", 0)), height, width))
    if spec.get("stripes"):
        return Inpainting(_stripes(spec["stripes"], height, width))
    if "mask" not in assets:
        raise OperatorError(
            "degradation: inpainting needs to know the hole; give boxes, random, stripes or a mask picture"
        )
    mask = np.asarray(assets["mask"])
    if mask.shape[-2:] != (height, width):
        raise OperatorError(
            f"degradation.mask: the mask has shape {mask.shape}, the pictures are {width}x{height}; "
            "it must be grey and of the same size"
        )
    return VideoInpainting(mask) if mask.ndim == 3 else Inpainting(mask)


def _stripes(stripes: Spec, height: int, width: int) -> np.ndarray:
    return stripe_mask(
        int(stripes["period"]),
        int(stripes["width"]),
        int(stripes.get("offset", 0)),
        stripes.get("orientation", "horizontal"),
        height,
        width,
    )


def _deblur(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    kernel = spec.get("kernel", "gaussian")
    padding = spec.get("padding", "reflect")
    noise = measurement_sigma(spec)

    def number(field: str) -> float:
        return float(_required(spec, field))

    if kernel == "gaussian":
        return GaussianBlur(height, width, number("sigma"), padding, noise)
    if kernel == "box":
        return BoxBlur(height, width, int(number("side")), padding, noise)
    if kernel == "lens":
        return LensBlur(height, width, number("sigma"), number("sigma_edge"), padding)
    angle = float(spec.get("angle", 0.0))
    if "kernel" in assets:
        return KernelBlur(height, width, torch.from_numpy(assets["kernel"]).double(), padding, noise)
    if kernel == "motion":
        taps = motion_kernel(number("length"), angle)
    elif kernel == "disk":
        taps = disk_kernel(number("radius"))
    elif kernel == "anisotropic":
        taps = anisotropic_gaussian_kernel(number("sigma"), number("sigma_across"), angle)
    else:
        raise OperatorError(
            f"degradation.kernel: {kernel!r} is no deblur kernel; use gaussian, anisotropic, motion, disk, "
            "box or lens"
        )
    return KernelBlur(height, width, taps, padding, noise)


def _composition(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    parts: list[ForwardOperator] = []
    for part in _required(spec, "parts"):
        parts.append(build_operator(part, height, width, assets))
        height, width = parts[-1].measured_shape[1:]
    return compose(*parts)


def _destriping(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    orientation = spec.get("orientation", "horizontal")
    return Destriping(height, width, orientation, float(spec.get("longest_period", 32.0)))


def _colorization(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    weights = spec.get("weights", "luma")
    if weights not in ("luma", "mean"):
        raise OperatorError(f"degradation.weights: {weights!r} is unknown; use luma or mean")
    return Colorization(height, width, LUMA_WEIGHTS if weights == "luma" else MEAN_WEIGHTS)


def _jpeg(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    return Jpeg(height, width, int(_required(spec, "quality")), spec.get("chroma", "4:2:0"))


def _quantisation(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    return Quantisation(height, width, int(_required(spec, "levels")))


def _clipping(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    return Clipping(height, width, float(spec.get("gain", 2.0)))


def _flicker(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    if "ordinals" not in assets:
        raise OperatorError("degradation: flicker needs to know which frames these are; give their ordinals")
    # Rows beyond the picture repeat its last one, exposure included.
    rows = min(height, int(assets.get("rows", np.array(height))))
    gains = rolling_gains(
        assets["ordinals"].tolist(),
        rows,
        float(_required(spec, "depth")),
        float(_required(spec, "cycles_per_frame")),
        float(spec.get("rows_per_cycle", math.inf)),
        float(spec.get("phase", 0.0)),
    )
    return ExposureFlicker(width, torch.cat([gains, gains[:, -1:].expand(-1, height - rows)], dim=1))


def _temporal_blur(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    if "ordinals" not in assets:
        raise OperatorError("degradation: temporal_blur needs to know which frames these are; give ordinals")
    before, after = (bool(is_open) for is_open in assets.get("open_ends", (False, False)))
    kernel = uniform_temporal_kernel(int(_required(spec, "taps")))
    return WindowBlur(height, width, len(assets["ordinals"]), kernel, (before, after))


def _required(spec: Spec, field: str) -> Any:
    if field not in spec:
        raise OperatorError(f"degradation.{field}: missing; add it to the degradation {dict(spec)}")
    return spec[field]


_BUILDERS: dict[str, Callable[[Spec, int, int, Assets], ForwardOperator]] = {
    "clipping": _clipping,
    "colorization": _colorization,
    "composition": _composition,
    "deblur": _deblur,
    "denoise": _denoise,
    "destriping": _destriping,
    "flicker": _flicker,
    "inpainting": _inpainting,
    "jpeg": _jpeg,
    "quantisation": _quantisation,
    "salt_and_pepper": _salt_and_pepper,
    "shot_noise": _shot_noise,
    "super_resolution": _super_resolution,
    "temporal_blur": _temporal_blur,
}
