"""Colour and contrast of a style as statistics of latents, moved by Gaussian optimal transport.

The closed-form Monge map between Gaussians (Olkin & Pukelsheim 1982; Peyre & Cuturi 2019, eq. 2.40):
``T(z) = m_s + A (z - m_c)``, ``A = S_c^-1/2 (S_c^1/2 S_s S_c^1/2)^1/2 S_c^-1/2``. One affine map per scene,
so it cannot flicker; unlike per-channel AdaIN it also carries correlations between channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: Added to covariances of unit-variance latents: flat pictures stay invertible.
RIDGE = 1e-4


@dataclass(frozen=True)
class LatentStatistics:
    """Mean [C] and covariance [C, C] of latents over pictures and cells, float64 on CPU."""

    mean: Tensor
    covariance: Tensor


def latent_statistics(z: Tensor) -> LatentStatistics:
    """Pooled statistics of latents [B, C, h, w]."""
    samples = z.detach().double().cpu().transpose(0, 1).flatten(1)
    mean = samples.mean(1)
    centred = samples - mean[:, None]
    return LatentStatistics(mean, centred @ centred.T / samples.shape[1])


def _root(matrix: Tensor, power: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).pow(power)) @ vectors.T


def transport_map(content: LatentStatistics, style: LatentStatistics) -> tuple[Tensor, Tensor]:
    """Matrix A [C, C] and offset b [C] (float64) with ``T(z) = A z + b``."""
    eye = RIDGE * torch.eye(content.mean.shape[0], dtype=torch.float64)
    root = _root(content.covariance + eye, 0.5)
    inverse = _root(content.covariance + eye, -0.5)
    matrix = inverse @ _root(root @ (style.covariance + eye) @ root, 0.5) @ inverse
    return matrix, style.mean - matrix @ content.mean


def gaussian_distance(a: LatentStatistics, b: LatentStatistics) -> float:
    """Squared 2-Wasserstein distance (Gelbrich 1990) of two Gaussians; `transport_map` brings it to zero."""
    eye = RIDGE * torch.eye(a.mean.shape[0], dtype=torch.float64)
    first, second = a.covariance + eye, b.covariance + eye
    root = _root(first, 0.5)
    spread = torch.trace(first + second - 2 * _root(root @ second @ root, 0.5))
    return float((a.mean - b.mean).square().sum() + spread)


def transport(z: Tensor, content: LatentStatistics, style: LatentStatistics, weight: float) -> Tensor:
    """``z + weight (T(z) - z)`` for latents [B, C, h, w]; ``weight`` in [0, 1]."""
    if weight == 0.0:
        return z
    matrix, offset = transport_map(content, style)
    matrix = weight * matrix + (1 - weight) * torch.eye(matrix.shape[0], dtype=torch.float64)
    matrix, offset = matrix.to(z), (weight * offset).to(z)
    return torch.einsum("dc,bchw->bdhw", matrix, z) + offset[None, :, None, None]
