"""Features of a source put in place of a frame's own: structure comes from the source, appearance does not.

Plug-and-Play (Tumanyan et al. 2023, arXiv 2211.12572) takes queries and keys of self-attention and one
residual feature of the decoder; StyleID (Chung et al. 2024, arXiv 2312.09008, eq. 5) blends queries.
The source is replayed beside the frame at every step, never stored: its trajectory is far smaller.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from operators.attention.harvest import Harvest
from operators.errors import OperatorError


@dataclass(frozen=True)
class Injection:
    """What rows take from the rows of ``source``, a harvest of as many rows (or one) that kept queries.

    In the self-attention ``layers``: the shares ``queries``, ``keys`` and ``values`` in [0, 1], the rest is
    their own. ``residuals`` names decoder blocks whose last convolution is the source's. ``branch``: the
    guidance branch the source was replayed in; both branches of the frame take from it. Own keys are meant:
    keys of references are their own affair.
    """

    source: Harvest
    layers: frozenset[str] = frozenset()
    queries: float = 1.0
    keys: float = 0.0
    values: float = 0.0
    residuals: frozenset[str] = frozenset()
    branch: str = "cond"

    def heads(self, layer: str, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, heads, L, d] of one layer. Raises OperatorError for a source that
        kept no queries there."""
        if layer not in self.layers:
            return q, k, v
        found = self.source.layers[self.branch, layer]
        if found.q is None:
            raise OperatorError(f"{layer}: the source kept no queries; harvest with Keep(queries=True)")
        return (
            blended(q, found.q, self.queries),
            blended(k, found.k, self.keys),
            blended(v, found.v, self.values),
        )

    def residual(self, name: str, out: Tensor) -> Tensor:
        """Output [B, C, h, w] of the last convolution of block ``name``."""
        if name not in self.residuals:
            return out
        return blended(out, self.source.residuals[self.branch, name], 1.0)


def blended(own: Tensor, source: Tensor, share: float) -> Tensor:
    """``share`` source + (1 - share) own; ``source`` may hold one row for all. Exact for shares 0 and 1."""
    if share == 0.0:
        return own
    source = source.expand_as(own)
    return source if share == 1.0 else share * source + (1.0 - share) * own
