"""What a stylization keeps of its input: colours, and regions that a mask marks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from operators.style.colour_lock import lock_colours
from operators.style.kept_regions import keep_regions, kept_weights
from pipeline.errors import SourceError


def kept_of_source(
    number: int,
    item: Mapping[str, Any],
    made: Tensor,
    source: Tensor,
    mask: np.ndarray[Any, Any] | None,
) -> Tensor:
    """``made`` [B, 3, H, W] of stage ``number`` with what its ``item`` keeps of ``source``, what went in, of
    the same size. ``mask``: uint8 [B or 1, H, W], 0 where a region is kept (white in the file).

    Pixels of a kept region are those of ``source``, bit for bit. Restorations keep nothing. Raises
    SourceError, code ``mask_size``.
    """
    style = item.get("stylize", {})
    if style.get("colour_lock"):
        made = lock_colours(made, source)
    if "keep" not in style or mask is None:
        return made
    if mask.shape[1:] != source.shape[2:]:
        (height, width), (tall, wide) = source.shape[2:], mask.shape[1:]
        raise SourceError(
            f"enhance.{number}.stylize.keep.mask has {wide}x{tall} pixels, the frames have {width}x{height}; "
            "give a mask of the frames' size",
            code="mask_size",
        )
    return keep_regions(made, source, kept_weights(mask == 0, style["keep"]["feather"]))
