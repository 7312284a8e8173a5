"""UniVST's attention shift (Song et al. 2025, "UniVST: A Unified Framework for Training-free Localized Video
Style Transfer", arXiv 2410.20084): queries from the content, keys and values blended with the style's.

As released: ``attention_adain`` normalises every token over its channels and then gives it the style's
statistics over tokens, which is no AdaIN in the usual sense; ``exact`` does what the paper says.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from operators.attention.harvest import Harvest
from operators.attention.injection import blended
from operators.attention.layer_call import LayerCall
from operators.attention.reading import Reading

#: Steps of 50 in which attention is shifted, and what is added inside the roots of both normalisations.
SHIFTED_STEPS, EPS = 25, 1e-5


@dataclass(frozen=True)
class AttentionShift:
    """``content_queries``: share of the content's queries; ``sharpness`` multiplies logits; the share of the
    frame's own keys and values falls from ``first`` to ``last`` over `SHIFTED_STEPS` steps."""

    layers: frozenset[str]
    content_queries: float = 0.65
    sharpness: float = 3.0
    first: float = 0.9
    last: float = 0.1
    exact: bool = False

    def own_share(self, step: int) -> float:
        """beta of step ``step``, counted from 0."""
        return self.first + (self.last - self.first) * step / SHIFTED_STEPS

    def reading(self, content: Harvest, style: Harvest, step: int) -> Reading:
        """What edited rows read at ``step``: ``content`` and ``style`` are harvests of as many rows, or one,
        that kept queries. After the shifted steps rows read themselves."""
        if step > SHIFTED_STEPS:
            return Reading()
        beta = self.own_share(step)

        def shifted(call: LayerCall) -> Tensor | None:
            if call.layer not in self.layers:
                return None
            (q, k, v), of_style = call.heads(), style.layers[call.key]
            q = blended(q, content.layers[call.key].q, self.content_queries) * self.sharpness
            k, v = (
                beta * self._styled(own, of_style_part) + (1 - beta) * of_style_part
                for own, of_style_part in ((k, of_style.k), (v, of_style.v))
            )
            return call.output(F.scaled_dot_product_attention(q, k, v))

        return Reading(replace=shifted)

    def _styled(self, x: Tensor, style: Tensor) -> Tensor:
        """``x`` [B, heads, L, d] with the statistics of ``style``."""
        tokens, target = _merged(x).float(), _merged(style).float()
        axis = 1 if self.exact else 2
        mean = tokens.mean(axis, keepdim=True)
        deviation = (tokens.var(axis, keepdim=True, unbiased=False) + EPS).sqrt()
        wanted = (target.var(1, keepdim=True) + EPS).sqrt()
        out = (tokens - mean) / deviation * wanted + target.mean(1, keepdim=True)
        return out.to(x.dtype).unflatten(2, (x.shape[1], -1)).transpose(1, 2)


def _merged(x: Tensor) -> Tensor:
    """[B, heads, L, d] to [B, L, heads d]."""
    return x.transpose(1, 2).flatten(2)
