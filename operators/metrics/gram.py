"""Style distance by Gram matrices of features."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def gram_matrices(features: Sequence[Tensor]) -> list[Tensor]:
    """Per level G = F F^T / (H W), float64 [C, C], of features [B, C, H, W], averaged over the batch.

    Gatys et al. 2016; it does not change when cells trade places.
    """
    matrices = []
    for level in features:
        rows = level.detach().double().cpu().flatten(2)
        matrices.append((rows @ rows.mT).mean(0) / rows.shape[2])
    return matrices


def gram_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """sum over levels of ||G_a - G_b||_F^2 / C^2 of `gram_matrices`; 0 for equal ones, no upper bound."""
    return float(
        sum((x - y).square().sum() / x.shape[0] ** 2 for x, y in zip(a, b, strict=True)) if a else 0.0
    )
