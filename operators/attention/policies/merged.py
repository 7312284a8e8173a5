"""Token merging with frozen destinations (after VidToMe, Li et al. 2024, arXiv 2312.10656).

The tokens of a frame that look most like tokens of its knots are taken out of self-attention; they get back
what the knots' own self-attention put out there. The rest reads as before. Destinations are the same for
every frame and every machine, so a result depends neither on the chunk nor on its order.
"""

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
from operators.attention.reading import Reading, aligned_heads, attend
from operators.correspondence.merging import Merging, merging, restored


@dataclass(frozen=True)
class Merged:
    """``knots`` (or, with ``hard`` weights, ``knots_hard``) with the share ``ratio`` of each frame's tokens
    merged into those of its knots. How much a token looks like its matches is weighed by the knots' weights,
    as are the outputs that it gets back: both are continuous where knots are exchanged.

    Ratio 0 is the policy without merging; with 1 all outputs are the knots', as under ``propagate``.
    """

    grid: tuple[int, ...]
    fields: Fields
    ratio: float
    hard: bool = False
    keep: Keep = WITH_OUTPUTS
    copies: Copies = AMONG_KNOTS

    def reading(self, unit: Unit, references: References) -> Reading:
        """What the policy reads, for the tokens that stay."""
        rows = knot_views(unit, self.grid, references, self.fields, hard=self.hard)
        reading = Knots(self.grid, hard=self.hard).reading(unit, references)
        return replace(reading, replace=functools.partial(_attend, reading, rows, self.ratio))


def _attend(reading: Reading, rows: list[list[View]], ratio: float, call: LayerCall) -> Tensor:
    hows = [_merging(call.layer, views, ratio) for views in rows]
    if len(hows[0].kept):
        kept = torch.stack([row[how.kept] for row, how in zip(call.tokens, hows, strict=True)])
        short = replace(call, tokens=kept)
        kept = short.output(attend(reading, call.key, *aligned_heads(reading.alignment, short)))
    else:
        kept = call.tokens[:, :0]
    return torch.stack(
        [
            restored(out, carried(call, views, how.dropped).to(out), how)
            for out, views, how in zip(kept, rows, hows, strict=True)
        ]
    )


def _merging(layer: str, views: list[View], ratio: float) -> Merging:
    matches = [view.matches(layer) for view in views]
    likeness = torch.stack(
        [match.similarity[:, 0] * view.weight for match, view in zip(matches, views, strict=True)]
    ).sum(0)
    return merging(likeness, matches[0].index[:, 0], ratio)
