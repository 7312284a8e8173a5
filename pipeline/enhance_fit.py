"""Whether the ``enhance`` list can be applied to frames of a given size: asked when a video is planned.

Sizes are known once a video is indexed, so what cannot work is refused before any frame is enhanced. The
operators check again; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.errors import SourceError
from pipeline.item_masks import mask_of
from pipeline.mask_clips import MaskSize

Spec = Mapping[str, Any]


def require_fit(
    enhance: Sequence[Spec],
    width: int,
    height: int,
    mask_sizes: Mapping[int, MaskSize],
    frames: int,
    largest_side: int | None = None,
) -> None:
    """Raises SourceError, code ``mask_size``, ``mask_frames`` or ``enhance_refused``, when a stage does not
    fit a video of ``frames`` frames.

    ``width``, ``height``: of the upright frames in pixels. ``mask_sizes``: of the mask of each stage that has
    one; ``largest_side``: pixels that a picture of the model may have along a side, None for any. The message
    names the field, the sizes and what would fit.
    """
    for number, item in enumerate(enhance):
        mask = mask_of(item)
        if mask is not None and number in mask_sizes:
            _require_mask(f"enhance.{number}.{mask.field}", mask_sizes[number], width, height, frames)
        if "restore" not in item:
            continue
        degradation = item["restore"]["degradation"]
        refused = _misfit(degradation, width, height)
        if refused:
            raise SourceError(
                f"enhance.{number}.restore.degradation.{refused}; the frames have {width}x{height} pixels "
                "at this stage",
                code="enhance_refused",
            )
        scale = int(degradation.get("scale", 1))
        width, height = width * scale, height * scale
        if largest_side is not None and max(width, height) > largest_side:
            raise SourceError(
                f"enhance.{number}.restore makes pictures of {width}x{height}, and the model knows no "
                f"positions beyond {largest_side} pixels; use smaller frames or a model with a UNet",
                code="enhance_refused",
            )


def _require_mask(field: str, mask: MaskSize, width: int, height: int, frames: int) -> None:
    if (mask.height, mask.width) != (height, width):
        raise SourceError(
            f"{field} has {mask.width}x{mask.height} pixels, the frames have {width}x{height}; give a mask "
            "of the frames' size",
            code="mask_size",
        )
    if mask.frames not in (None, frames):
        raise SourceError(
            f"{field} has {mask.frames} frames, the video has {frames}; give one mask per frame, or a "
            "picture that all frames share",
            code="mask_frames",
        )


def _misfit(degradation: Spec, width: int, height: int) -> str:
    """The field that does not fit and the fix, or nothing."""
    kind, side = degradation["kind"], min(width, height)
    if kind == "composition":
        return _misfit_of_part(degradation, width, height)
    if kind == "deblur":
        return _wide_kernel(degradation, side)
    if kind == "inpainting":
        return _unfit_hole(degradation, width, height)
    if kind == "destriping":
        lines = height if degradation["orientation"] == "horizontal" else width
        if degradation["longest_period"] > 2 * lines:
            return f"longest_period: {degradation['longest_period']} is too long; use at most {2 * lines}"
    return ""


def _misfit_of_part(degradation: Spec, width: int, height: int) -> str:
    """Parts happened to the restored picture, which is larger, one after another."""
    width, height = width * degradation["scale"], height * degradation["scale"]
    for at, part in enumerate(degradation["parts"]):
        refused = _misfit(part, width, height)
        if refused:
            return f"parts.{at}.{refused}"
        scale = part.get("scale", 1)
        width, height = width // scale, height // scale
    return ""


def _wide_kernel(degradation: Spec, side: int) -> str:
    kernel = str(degradation["kernel"])
    field = {"motion": "length", "disk": "radius", "box": "side"}.get(kernel, "sigma")
    for other in ("sigma_across", "sigma_edge"):
        if degradation.get(other, 0.0) > degradation[field]:
            field = other
    half = (side - 1) // 2
    at_most = {
        # A Gaussian ends at four sigma. Its tails may leave the frame, as long as it is mirrored only once.
        "gaussian": (side - 1) / 4.0,
        "lens": (side - 1) / 4.0,
        "anisotropic": half / 4.0,
        "motion": 2.0 * half + 1.0,
        "disk": half + 0.5,
        "box": float(side),
    }[kernel]
    if degradation[field] <= at_most:
        return ""
    return f"{field}: {degradation[field]} makes the kernel larger than the frame; use at most {at_most:g}"


def _unfit_hole(degradation: Spec, width: int, height: int) -> str:
    boxes = degradation.get("boxes", ())
    keep = np.ones((height, width), dtype=bool)
    for at, (x, y, w, h) in enumerate(boxes):
        if x + w > width or y + h > height:
            return f"boxes.{at}: [{x}, {y}, {w}, {h}] leaves the frame; boxes are [x, y, width, height]"
        keep[y : y + h, x : x + w] = False
    if not keep.any():
        return "boxes: they hide every pixel, and nothing is left to fill them from; leave some of the frame"
    if "stripes" in degradation:
        stripes = degradation["stripes"]
        lines = height if stripes["orientation"] == "horizontal" else width
        if not ((np.arange(lines) - stripes["offset"]) % stripes["period"] >= stripes["width"]).any():
            return f"stripes: they hide all {lines} lines; use a width below {lines} or another offset"
    return ""
