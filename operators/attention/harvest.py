"""What a replayed reference leaves in the self-attention layers of a network.

References are harvested by replaying their latent z_t through the network in calls of their own and fixed
shape: what they leave is defined by that call alone, so it does not matter who replays them, when, or beside
which other frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from operators.attention.adain import Moments
from operators.attention.norms import GroupSums

#: (guidance branch, layer name): both branches of classifier-free guidance keep what is theirs.
LayerKey = tuple[str, str]


@dataclass(frozen=True)
class Keep:
    """What a harvest keeps besides keys and values: ``moments`` of queries and keys (for AdaIN), ``norms``
    of the GroupNorm layers, ``inputs`` (the tokens that enter self-attention), ``outputs`` (those that leave
    it, projected, before the residual sum), the ``whole`` bank beside a bounded one, ``queries``, and what
    the convolutions named in ``residuals`` put out (`operators.attention.injection`)."""

    moments: bool = True
    norms: bool = True
    inputs: bool = False
    outputs: bool = False
    whole: bool = False
    queries: bool = False
    residuals: frozenset[str] = frozenset()


#: Enough for references that are read and aligned to.
WHAT_READING_NEEDS = Keep()


@dataclass(frozen=True)
class LayerHarvest:
    """One self-attention layer after a replay of R frames: ``k``, ``v`` [R, heads, N, d] after alignment,
    the pooled statistics of queries and keys before it, and where kept ``inputs``, ``outputs`` [R, L, C].

    A bounded bank holds fewer tokens (N < L), each speaking for exp(``log_count`` [R, N]) of them; a merged
    one has R = 1. ``whole``, where kept, are keys and values of all tokens of all rows; ``q`` the queries
    [R, heads, L, d] after alignment."""

    k: Tensor
    v: Tensor
    log_count: Tensor | None = None
    q_moments: Moments | None = None
    k_moments: Moments | None = None
    inputs: Tensor | None = None
    outputs: Tensor | None = None
    whole: tuple[Tensor, Tensor] | None = None
    q: Tensor | None = None


@dataclass(frozen=True)
class Harvest:
    """A replayed reference at one step: per layer and guidance branch its attention and norm facts, and
    where kept the outputs of convolutions, ``residuals``."""

    layers: dict[LayerKey, LayerHarvest] = field(default_factory=dict)
    norms: dict[LayerKey, GroupSums] = field(default_factory=dict)
    residuals: dict[LayerKey, Tensor] = field(default_factory=dict)
