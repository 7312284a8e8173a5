"""COVE-like attention (Wang et al. 2024, arXiv 2406.08850): a token reads its matches in other frames.

The paper matches each frame with the next one, follows the best matches through the video and lets a token
attend to all it meets on the way. That needs every frame. In our form a frame is matched directly with the
references that everybody has, its knots and the scene's anchors; a token then reads all of its own frame and
its K matches in each reference. Our reading where the paper is silent: one softmax over both, each match of a
knot under the knot's hat weight.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from operators.attention.bias import log_weight
from operators.attention.harvest import Keep
from operators.attention.layer_call import LayerCall
from operators.attention.policies.base import ONCE, WITH_WHOLE_BANKS, Copies, References, Unit
from operators.attention.policies.views import Fields, View, knot_views
from operators.attention.reading import Reading, aligned_heads, as_one
from operators.correspondence.gathered import gathered_attention
from operators.correspondence.propagation import taken


@dataclass(frozen=True)
class Correspondence:
    """``correspondence``. ``anchors`` are the ordinals of the scene's anchors, in their order."""

    grid: tuple[int, ...]
    fields: Fields
    anchors: tuple[int, ...]
    keep: Keep = WITH_WHOLE_BANKS
    copies: Copies = ONCE

    def reading(self, unit: Unit, references: References) -> Reading:
        """All tokens of the frame itself and of the style; matches in anchors and knots."""
        rows = [
            self._anchor_views(ordinal, references) + knots
            for ordinal, knots in zip(
                unit.ordinals, knot_views(unit, self.grid, references, self.fields), strict=True
            )
        ]
        reading = replace(references.scene_reading(), readers=references.style_reading().readers)
        return replace(reading, replace=functools.partial(_attend, reading, rows))

    def _anchor_views(self, ordinal: int, references: References) -> list[View]:
        scene = references.anchors
        if scene is None:
            return []
        return [
            View(scene, row, 1.0, self.fields[ordinal, anchor], references.mirrored)
            for row, anchor in enumerate(self.anchors)
        ]


def _attend(reading: Reading, rows: list[list[View]], call: LayerCall) -> Tensor:
    """Rows one by one: each has matches, and a number of references, of its own."""
    q, k, v = aligned_heads(reading.alignment, call)
    common_k, common_v = [k], [v]
    bias = [q.new_zeros(k.shape[2])]
    for reader in reading.readers:
        layer = reader.harvest.layers[call.key]
        common_k.append(as_one(layer.k, len(rows)))
        common_v.append(as_one(layer.v, len(rows)))
        speaks_for = q.new_zeros(common_k[-1].shape[2]) if layer.log_count is None else layer.log_count
        bias.append(speaks_for.flatten().to(q) + reader.bias)
    all_k, all_v, all_bias = torch.cat(common_k, 2), torch.cat(common_v, 2), torch.cat(bias)
    attended = [
        gathered_attention(q[row][None], all_k[row][None], all_v[row][None], all_bias, *_matched(call, views))
        for row, views in enumerate(rows)
    ]
    return call.output(torch.cat(attended))


def _matched(call: LayerCall, views: list[View]) -> tuple[Tensor, Tensor, Tensor]:
    """Keys and values [1, heads, L, M, d] of all matches, and their biases [1, M]."""
    keys, values, bias = [], [], []
    for view in views:
        index = view.matches(call.layer).index
        k, v = view.keys(call)
        keys.append(taken(k, index))
        values.append(taken(v, index))
        bias.append(log_weight(torch.tensor([view.weight] * index.shape[1])))
    return torch.cat(keys, 2)[None], torch.cat(values, 2)[None], torch.cat(bias).to(keys[0])[None]
