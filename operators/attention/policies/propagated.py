"""TokenFlow-like propagation (Geyer et al. 2023, arXiv 2307.10373): in coarse layers a frame's self-attention
is not computed, but taken from where the knots show the same."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from operators.attention.harvest import Keep
from operators.attention.layer_call import LayerCall
from operators.attention.policies.base import AMONG_KNOTS, WITH_OUTPUTS, Copies, References, Unit
from operators.attention.policies.knots import Knots
from operators.attention.policies.views import Fields, View, carried, knot_views
from operators.attention.reading import Reading


@dataclass(frozen=True)
class Propagated:
    """``propagate``: in layers coarser than the latent, outputs of the nearest tokens of the two knots under
    hat weights; in layers as fine as the latent a frame reads as under ``knots``, since copies of fine
    texture would show.

    The published method draws keyframes anew in every step, blends the nearest with the previous one, and
    matches tokens of the current step. Ours are the knots around the frame, blended so that nothing jumps,
    and matched by features of the source: what a frame becomes depends on no draw and no batch.
    """

    grid: tuple[int, ...]
    fields: Fields
    keep: Keep = WITH_OUTPUTS
    copies: Copies = AMONG_KNOTS

    def reading(self, unit: Unit, references: References) -> Reading:
        """What ``knots`` reads, and propagation in its place where layers are coarse."""
        rows = knot_views(unit, self.grid, references, self.fields)
        cells = unit.noise.shape[-2] * unit.noise.shape[-1]
        reading = Knots(self.grid).reading(unit, references)
        return replace(reading, replace=functools.partial(_propagate, rows, cells))


def _propagate(rows: list[list[View]], cells: int, call: LayerCall) -> Tensor | None:
    if call.tokens.shape[1] >= cells:
        return None
    return torch.stack([carried(call, views) for views in rows])
