"""From the ``degradation`` mapping of a job to a forward operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from operators.degradations.base import ForwardOperator
from operators.degradations.blur import GaussianBlur, KernelBlur, motion_kernel
from operators.degradations.denoise import Denoise
from operators.degradations.inpainting import Inpainting, mask_from_boxes
from operators.degradations.super_resolution import AreaDownsampling, BicubicDownsampling
from operators.errors import OperatorError

Spec = Mapping[str, Any]
Assets = Mapping[str, np.ndarray]


def build_operator(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    """The operator of ``spec`` for restored pictures of ``height`` x ``width`` pixels.

    ``spec["kind"]``: ``denoise``; ``super_resolution`` (``scale``, ``kernel`` area | bicubic);
    ``inpainting`` (``boxes`` [[x, y, w, h], ...], else ``assets["mask"]`` uint8 (H, W), 0 = hole);
    ``deblur`` (``kernel`` gaussian with ``sigma`` | motion with ``length`` and ``angle``, ``padding``
    reflect | circular). ``noise``: standard deviation on [0, 1].

    Raises OperatorError naming the field when the mapping or the mask cannot be used.
    """
    kind = _required(spec, "kind")
    if kind not in _BUILDERS:
        kinds = ", ".join(sorted(_BUILDERS))
        raise OperatorError(f"degradation.kind: {kind!r} is unknown; use one of {kinds}")
    return _BUILDERS[kind](spec, height, width, assets)


def measurement_sigma(spec: Spec) -> float:
    """Noise standard deviation on [-1, 1]: twice the ``noise`` of the spec, which is on [0, 1]."""
    noise = float(spec.get("noise", 0.0))
    if not 0.0 <= noise < 1.0:
        raise OperatorError(
            f"degradation.noise: {noise} is outside [0, 1); it is a standard deviation on [0, 1]"
        )
    return 2.0 * noise


def _denoise(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    return Denoise(height, width)


def _super_resolution(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    kernel = spec.get("kernel", "area")
    scale = int(_required(spec, "scale"))
    if kernel == "area":
        return AreaDownsampling(height, width, scale)
    if kernel == "bicubic":
        return BicubicDownsampling(height, width, scale)
    raise OperatorError(f"degradation.kernel: {kernel!r} is no super_resolution kernel; use area or bicubic")


def _inpainting(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    if spec.get("boxes"):
        return Inpainting(mask_from_boxes(spec["boxes"], height, width))
    if "mask" not in assets:
        raise OperatorError("degradation: inpainting needs boxes or a mask picture; give one of them")
    mask = np.asarray(assets["mask"])
    if mask.shape != (height, width):
        raise OperatorError(
            f"degradation.mask: the mask has shape {mask.shape}, the pictures are {width}x{height}; "
            "it must be grey and of the same size"
        )
    return Inpainting(mask)


def _deblur(spec: Spec, height: int, width: int, assets: Assets) -> ForwardOperator:
    kernel = spec.get("kernel", "gaussian")
    padding = spec.get("padding", "reflect")
    noise = measurement_sigma(spec)
    if kernel == "gaussian":
        return GaussianBlur(height, width, float(_required(spec, "sigma")), padding, noise)
    if kernel == "motion":
        line = motion_kernel(float(_required(spec, "length")), float(spec.get("angle", 0.0)))
        return KernelBlur(height, width, line, padding, noise)
    raise OperatorError(f"degradation.kernel: {kernel!r} is no deblur kernel; use gaussian or motion")


def _required(spec: Spec, field: str) -> Any:
    if field not in spec:
        raise OperatorError(f"degradation.{field}: missing; add it to the degradation {dict(spec)}")
    return spec[field]


_BUILDERS: dict[str, Callable[[Spec, int, int, Assets], ForwardOperator]] = {
    "deblur": _deblur,
    "denoise": _denoise,
    "inpainting": _inpainting,
    "super_resolution": _super_resolution,
}
