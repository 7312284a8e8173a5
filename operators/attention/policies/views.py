"""References as single frames see them: how near they are, and which of their tokens are whose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from operators.attention.harvest import Harvest
from operators.attention.layer_call import LayerCall
from operators.attention.policies.base import References, Unit
from operators.attention.policies.knots import knot_weights
from operators.correspondence.cosine import Matches
from operators.correspondence.fields import Field
from operators.correspondence.propagation import propagate
from operators.errors import OperatorError

#: Matches of a frame (first ordinal) in a reference (second ordinal).
Fields = Mapping[tuple[int, int], Field]


@dataclass(frozen=True)
class View:
    """Row ``row`` of a harvest, seen by one frame: the ``weight`` of the reference and the frame's ``field``
    in it, both ``mirrored`` along the same axes."""

    harvest: Harvest
    row: int
    weight: float
    field: Field
    mirrored: tuple[int, ...] = ()

    def matches(self, layer: str) -> Matches:
        """The frame's matches as the network sees them at this step."""
        return self.field.at(layer, self.mirrored)

    def keys(self, call: LayerCall) -> tuple[Tensor, Tensor]:
        """Keys and values of all tokens of the reference in this layer, [heads, L, d] each."""
        whole = self.harvest.layers[call.key].whole
        if whole is None:
            raise OperatorError(f"{call.layer}: the references' whole banks were not kept")
        return whole[0][self.row], whole[1][self.row]

    def output(self, call: LayerCall) -> Tensor:
        """What the reference's own self-attention put out in this layer, [L, C]."""
        outputs = self.harvest.layers[call.key].outputs
        if outputs is None:
            raise OperatorError(f"{call.layer}: the references' outputs were not kept")
        return outputs[self.row]


def knot_views(
    unit: Unit, grid: tuple[int, ...], references: References, fields: Fields, *, hard: bool = False
) -> list[list[View]]:
    """For each row of ``unit`` the knots around it that weigh anything."""
    weights = knot_weights(unit.ordinals, grid, hard=hard)
    return [
        [
            View(references.knot(knot), 0, of_row[row], fields[ordinal, knot], references.mirrored)
            for knot, of_row in weights.items()
            if of_row[row] > 0.0
        ]
        for row, ordinal in enumerate(unit.ordinals)
    ]


def carried(call: LayerCall, views: list[View], which: Tensor | None = None) -> Tensor:
    """Outputs [L, C] of the best matches in ``views``, weighted; only for the tokens ``which`` when given."""
    fields = [view.matches(call.layer).index[:, 0] for view in views]
    if which is not None:
        fields = [field[which] for field in fields]
    weights = torch.tensor([view.weight for view in views])
    return propagate([view.output(call) for view in views], fields, weights)
