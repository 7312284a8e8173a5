"""The orthonormal discrete cosine transform."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosine_basis(n: int) -> Tensor:
    """Orthonormal DCT-II, float64 (n, n), one component per row; its transpose inverts it."""
    k = torch.arange(n, dtype=torch.float64)
    basis = torch.cos(math.pi / n * (k + 0.5) * k[:, None]) * math.sqrt(2.0 / n)
    basis[0] /= math.sqrt(2.0)
    return basis
