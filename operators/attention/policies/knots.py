"""Knots: a frame also reads the two knots around it, weighted by how near they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from operators.attention.bias import log_weight
from operators.attention.harvest import WHAT_READING_NEEDS, Keep
from operators.attention.hat import bracket
from operators.attention.policies.base import AMONG_KNOTS, Copies, References, Unit
from operators.attention.reading import Reader, Reading
from operators.errors import OperatorError


@dataclass(frozen=True)
class Knots:
    """``knots``, and with ``hard`` weights ``knots_hard``. ``grid`` are the knots of the scene around the
    frames, ascending (absolute ordinals)."""

    grid: tuple[int, ...]
    hard: bool = False
    keep: Keep = WHAT_READING_NEEDS
    copies: Copies = AMONG_KNOTS

    def reading(self, unit: Unit, references: References) -> Reading:
        """Itself, style, anchors and the two bracketing knots under hat weights (section 6.4 of the design:
        log(1 - u) and log(u)). Raises OperatorError for a unit that lies across a knot."""
        scene = references.scene_reading()
        weights = knot_weights(unit.ordinals, self.grid, hard=self.hard)
        readers = [
            Reader(references.knot(knot), row_bias=log_weight(torch.tensor(rows)))
            for knot, rows in weights.items()
            if any(rows)
        ]
        return replace(scene, readers=(*scene.readers, *readers))


def knot_weights(ordinals: Sequence[int], grid: Sequence[int], *, hard: bool) -> dict[int, list[float]]:
    """Weight in every row of the knots around ``ordinals``, left knot first."""
    brackets = [bracket(ordinal, grid, hard=hard) for ordinal in ordinals]
    (left, right), *others = {(b.left, b.right): None for b in brackets}
    if others:
        raise OperatorError(f"a unit must lie between two knots, got {[(left, right), *others]}")
    if left == right:
        return {left: [1.0 for _ in brackets]}
    return {left: [b.left_weight for b in brackets], right: [b.right_weight for b in brackets]}
