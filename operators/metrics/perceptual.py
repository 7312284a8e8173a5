"""Distance of pictures in a space of features, after LPIPS."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

#: Keeps the direction of a vanishing feature defined.
_TINY = 1e-10


def perceptual_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Mean over levels and places of the squared distance of unit features, per picture [B], in [0, 4].

    ``a``, ``b``: features [B, C_l, H_l, W_l] of the same shapes, as of `encoder_features`. Zhang et al. 2018,
    "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", eq. 1 with all weights one and
    levels averaged. Not calibrated on human judgements: compares methods on the same pictures and model, and
    its values are no LPIPS.
    """
    levels = [(_unit(x) - _unit(y)).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True)]
    return sum(levels[1:], levels[0]) / len(levels)


def _unit(x: Tensor) -> Tensor:
    """Features [B, C, H, W] over their length at each place."""
    return x.double() / (x.double().square().sum(1, keepdim=True).sqrt() + _TINY)
