"""StyleID (Chung, Hyun and Heo 2024, "Style Injection in Diffusion", arXiv 2312.09008) as a pinned source.

The content keeps its queries (share ``queries`` of those of its inversion, eq. 5), the start takes the
style's per-channel statistics (eq. 8), and keys and values come from the style
(`operators.style.readings.StyleInPlace`). No network is trained, no prompt is needed.
"""

from __future__ import annotations

import functools

from operators.attention.session import SharedAttention
from operators.inversion.pinned import PinnedSource, SourceFeatures
from operators.solvers.base import LatentPrior
from operators.style.latent_adain import ChannelMoments, adain_latents

#: Share of the content's queries; 0.3 gives a stronger style.
QUERIES = 0.75


def styleid(
    timesteps: tuple[int, ...],
    source: LatentPrior,
    session: SharedAttention,
    layers: frozenset[str],
    style: ChannelMoments,
    *,
    queries: float = QUERIES,
    content: ChannelMoments | None = None,
) -> PinnedSource:
    """The solver. ``style`` are the statistics of the style's inverted latent at ``timesteps[0]``,
    ``content`` those of the scene's anchors there (None: each frame's own, which may flicker)."""
    features = SourceFeatures(layers, queries=queries, keys=0.0, attention_until=1.0, residual_until=0.0)
    start = functools.partial(adain_latents, style=style, content=content)
    return PinnedSource(timesteps, source, session, features, noised=start)
