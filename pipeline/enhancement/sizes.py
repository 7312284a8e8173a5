"""How large the pictures of each stage are, and the latents behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from operators.degradations.registry import side_multiple
from operators.pictures import pad_edges, padded_side
from operators.solvers.checkpoint_sides import checkpoint_multiple


@dataclass(frozen=True)
class StageSizes:
    """Sizes along the ``enhance`` list. ``multiple``: what the model's pictures are multiples of, in pixels;
    ``factor``: pixels per latent cell and side."""

    enhance: Sequence[Mapping[str, Any]]
    multiple: int
    factor: int

    def scale(self, number: int) -> int:
        """Linear growth of pictures in stage ``number``."""
        restore = self.enhance[number].get("restore")
        return int(restore["degradation"].get("scale", 1)) if restore else 1

    def grown(self, number: int, sides: Sequence[int]) -> list[int]:
        """Sides in pixels of what enters stage ``number`` when frames have ``sides``."""
        growth = math.prod(self.scale(before) for before in range(number))
        return [side * growth for side in sides]

    def padded_sides(self, number: int, sides: Sequence[int]) -> list[int]:
        """Sides of stage ``number``'s input of ``sides`` pixels, padded for model, degradation and the
        solver's own weights."""
        restore = self.enhance[number].get("restore")
        multiple = self.multiple
        if restore:
            own = checkpoint_multiple(restore["solver"])
            multiple = math.lcm(multiple, side_multiple(restore["degradation"]), own)
        return [padded_side(side, self.scale(number), multiple) for side in sides]

    def cells(self, number: int, sides: Sequence[int]) -> list[int]:
        """Sides of the latent behind stage ``number``'s input of ``sides`` pixels."""
        return [side * self.scale(number) // self.factor for side in self.padded_sides(number, sides)]

    def padded(self, number: int, y: Tensor) -> Tensor:
        """Stage ``number``'s input [B, 3, h, w], its last row and column repeated up to the padded sides."""
        height, width = self.padded_sides(number, y.shape[2:])
        return pad_edges(y, height, width)
