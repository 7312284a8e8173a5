"""Synthetic pictures to train on: smooth colour fields with a little grain, equal on every machine."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def synthetic_picture(number: int, height: int, width: int) -> np.ndarray:
    """uint8 [height, width, 3], different for each ``number``."""
    draw = np.random.default_rng(number)
    field = cv2.resize(draw.uniform(20, 235, (5, 5, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(field + draw.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8)


def write_pictures(folder: Path, count: int, *, first: int = 0) -> Path:
    """``count`` PNG files of 128 to 160 pixels a side."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        picture = synthetic_picture(number, 128 + 8 * (number % 5), 160 - 4 * (number % 3))
        cv2.imwrite(str(folder / f"{number:04}.png"), picture)
    return folder
