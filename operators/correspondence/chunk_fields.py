"""The fields of all frames of a chunk in the references around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from operators.attention.session import SharedAttention
from operators.correspondence.fields import Features, Field, Matcher, field_between
from operators.correspondence.source import source_features
from operators.solvers.base import LatentPrior


def chunk_fields(
    frames: Mapping[int, Tensor],
    references: Mapping[int, Tensor],
    pairs: Iterable[tuple[int, int]],
    session: SharedAttention,
    prior: LatentPrior,
    match: Matcher,
) -> dict[tuple[int, int], Field]:
    """The field of each pair (frame, reference) of ordinals, given clean latents [1, C, h, w] of sources.

    Every picture is shown to the network alone and once; only matches are kept of the frames.
    """
    targets: dict[int, Features] = {}
    wanted: dict[int, list[int]] = {}
    for frame, reference in pairs:
        wanted.setdefault(frame, []).append(reference)
    fields = {}
    for frame, those in wanted.items():
        z0 = frames[frame]
        features = source_features(z0, session, prior)
        for reference in those:
            if reference not in targets:
                targets[reference] = source_features(references[reference], session, prior)
            size = (z0.shape[2], z0.shape[3])
            fields[frame, reference] = field_between(features, targets[reference], size, match)
    return fields
