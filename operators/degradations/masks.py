"""Which pixels were measured: keep-masks uint8 (H, W), 1 = measured, 0 = hole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from operators.errors import OperatorError
from operators.noise import keyed_generator

# Random masks are drawn tile by tile, so that a larger picture extends the mask of a smaller one.
_TILE = 256


def mask_from_boxes(boxes: Sequence[Sequence[int]], height: int, width: int) -> np.ndarray:
    """Keep-mask with zero inside each ``[x, y, w, h]`` (pixels, top left)."""
    mask = np.ones((height, width), dtype=np.uint8)
    for i, (x, y, w, h) in enumerate(boxes):
        if x < 0 or y < 0 or w < 1 or h < 1 or x + w > width or y + h > height:
            raise OperatorError(
                f"degradation.boxes[{i}]: [{x}, {y}, {w}, {h}] leaves the {width}x{height} picture; "
                "boxes are [x, y, width, height] in pixels from the top left"
            )
        mask[y : y + h, x : x + w] = 0
    return mask


def random_mask(share: float, seed: int, height: int, width: int) -> np.ndarray:
    """Keep-mask where each pixel is missing with probability ``share``, independently.

    A pixel's fate depends on ``seed`` and its place alone, not on the size of the picture.
    """
    if not 0.0 < share < 1.0:
        raise OperatorError(f"degradation.random.share: {share} is outside (0, 1); it is the share missing")
    rows, columns = -(-height // _TILE), -(-width // _TILE)
    draw = torch.cat(
        [torch.cat([_tile(seed, row, column) for column in range(columns)], dim=1) for row in range(rows)]
    )
    return (draw[:height, :width] >= share).numpy().astype(np.uint8)


def stripe_mask(
    period: int,
    width: int,
    offset: int,
    orientation: Literal["horizontal", "vertical"],
    picture_height: int,
    picture_width: int,
) -> np.ndarray:
    """Keep-mask without ``width`` lines in every ``period``, the first at line ``offset``.

    Destriping as inpainting (named among the tasks of PSLD; the definition is ours).
    """
    if not 1 <= width < period:
        raise OperatorError(
            f"degradation.stripes.width: {width} of every {period} lines leaves none; use 1 to {period - 1}"
        )
    if orientation not in ("horizontal", "vertical"):
        raise OperatorError(
            f"degradation.stripes.orientation: {orientation!r} is unknown; use horizontal or vertical"
        )
    lines = picture_height if orientation == "horizontal" else picture_width
    keep = ((np.arange(lines) - offset) % period >= width).astype(np.uint8)
    if orientation == "horizontal":
        return np.repeat(keep[:, None], picture_width, axis=1)
    return np.repeat(keep[None, :], picture_height, axis=0)


def _tile(seed: int, row: int, column: int) -> torch.Tensor:
    return torch.rand(_TILE, _TILE, generator=keyed_generator(seed, "random mask", row, column))
