"""Regions of a picture that an edit must not touch: faces, logos, titles.

The edit is composed with its input in pixels: latents of 4 or 8 pixels a cell, mixed there (as in UniVST,
Song et al. 2025, "localised" transfer), come back changed by the autoencoder.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor


def kept_weights(kept: np.ndarray, feather: int) -> Tensor:
    """How much of the input stays, float32 [B, 1, H, W] in [0, 1], for regions ``kept`` bool [B, H, W].

    1 inside; outside it falls linearly with the (Euclidean) distance to the nearest kept pixel and is 0 from
    ``feather`` pixels on, so that the soft edge is all outside and what is marked is kept whole. A frame
    without kept pixels has 0 everywhere.
    """
    weights = [_falling(one, feather) if one.any() else np.zeros(one.shape, np.float32) for one in kept]
    return torch.from_numpy(np.stack(weights))[:, None]


def keep_regions(edited: Tensor, source: Tensor, weights: Tensor) -> Tensor:
    """``source`` where ``weights`` [B, 1, H, W] are 1, bit for bit; ``edited`` where they are 0; else their
    mean. Pictures [B, 3, H, W]."""
    weights = weights.to(edited)
    mixed = torch.lerp(edited, source, weights)
    # Interpolation need not return its end points exactly.
    return torch.where(weights == 1, source, torch.where(weights == 0, edited, mixed))


def _falling(kept: np.ndarray, feather: int) -> np.ndarray:
    if feather == 0:
        return kept.astype(np.float32)
    # The precise mask gives true Euclidean distances; smaller ones approximate them.
    away = cv2.distanceTransform((~kept).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    falling: np.ndarray = np.clip(1.0 - away / feather, 0.0, 1.0).astype(np.float32)
    return falling
