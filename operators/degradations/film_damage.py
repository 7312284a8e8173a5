"""Where old film is damaged: vertical scratches that stay for a while, and dust that shows once.

Keep-masks uint8 (T, H, W), 1 = measured, for ``VideoInpainting``. A mask depends on the key and the frame's
absolute ordinal alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from operators.degradations.noise_models import Key
from operators.errors import OperatorError
from operators.noise import keyed_generator

# Frames that a scratch lasts: a hair in the gate of a projector.
SCRATCH_FRAMES = 24
# Half-axes of dust, as shares of the picture's height.
DUST_SIZES = (0.004, 0.02)


def scratch_masks(ordinals: Sequence[int], height: int, width: int, count: int, key: Key) -> np.ndarray:
    """``count`` vertical scratches per ``SCRATCH_FRAMES`` frames, one to three pixels wide, that wander by
    up to a pixel per frame and cover a random stretch of at least half the height."""
    masks = np.ones((len(ordinals), height, width), dtype=np.uint8)
    for mask, ordinal in zip(masks, ordinals, strict=True):
        epoch, age = divmod(ordinal, SCRATCH_FRAMES)
        for number in range(_counted(count)):
            draw = torch.rand(5, generator=keyed_generator(*key, "scratch", epoch, number)).tolist()
            x = draw[0] * width + (2.0 * draw[1] - 1.0) * age
            left, wide = math.floor(x), 1 + int(3.0 * draw[2])
            top = int(draw[3] * height / 2.0)
            bottom = top + math.ceil((0.5 + 0.5 * draw[4]) * height)
            mask[top:bottom, max(0, left) : max(0, left + wide)] = 0
    return masks


def dust_masks(ordinals: Sequence[int], height: int, width: int, count: int, key: Key) -> np.ndarray:
    """``count`` elliptic specks per frame, fresh ones in every frame."""
    masks = np.ones((len(ordinals), height, width), dtype=np.uint8)
    rows, columns = np.mgrid[:height, :width]
    low, high = (max(1.0, size * height) for size in DUST_SIZES)
    for mask, ordinal in zip(masks, ordinals, strict=True):
        for number in range(_counted(count)):
            draw = torch.rand(5, generator=keyed_generator(*key, "dust", ordinal, number)).tolist()
            y, x = rows - draw[0] * height, columns - draw[1] * width
            angle = math.pi * draw[2]
            along = x * math.cos(angle) + y * math.sin(angle)
            across = y * math.cos(angle) - x * math.sin(angle)
            a, b = (low + share * (high - low) for share in draw[3:])
            mask[(along / a) ** 2 + (across / b) ** 2 <= 1.0] = 0
    return masks


def _counted(count: int) -> int:
    if count < 0:
        raise OperatorError(f"degradation.count: {count} is negative; give how many")
    return count
