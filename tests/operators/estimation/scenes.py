"""Synthetic films with the statistics that estimators rely on: sharp edges, flat places, texture, motion."""

from __future__ import annotations

import cv2
import numpy as np


def dead_leaves(height: int, width: int, seed: int) -> np.ndarray:
    """Overlapping shaded disks of all sizes, uint8 [H, W, 3], edges averaged over 4x4 samples per pixel."""
    rng = np.random.default_rng(seed)
    canvas = np.zeros((4 * height, 4 * width, 3), dtype=np.float32)
    for _ in range(400):
        radius = 4 * 6.0 * (1.0 - 0.98 * rng.random()) ** -0.6
        centre = (int(rng.uniform(0, 4 * width)), int(rng.uniform(0, 4 * height)))
        cv2.circle(canvas, centre, round(radius), rng.uniform(0.12, 0.88, 3).tolist(), -1)
    small = canvas.reshape(height, 4, width, 4, 3).mean((1, 3))
    shade = 0.06 * np.sin(np.arange(width) / 37.0)[None, :, None]
    return np.rint(255.0 * np.clip(small + shade, 0.05, 0.95)).astype(np.uint8)


def noisy(frames: np.ndarray, codes: float, seed: int) -> np.ndarray:
    """White noise of ``codes`` 8-bit codes on every channel."""
    noise = np.random.default_rng(seed).normal(0.0, codes, frames.shape)
    return np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8)


def blurred(frame: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, uint8 [H, W, 3]."""
    smooth = cv2.GaussianBlur(frame.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return np.rint(smooth).astype(np.uint8)


def pan(height: int, width: int, frames: int, seed: int) -> np.ndarray:
    """A camera moving over dead leaves, uint8 [N, H, W, 3]."""
    wide = dead_leaves(height + 120, width + 160, seed)
    ways = np.linspace(0.0, 1.0, frames)
    return np.stack([wide[int(120 * at) :, int(160 * at) :][:height, :width] for at in ways])


def with_logo(frames: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """A white plate with letters over every frame; ``box`` [x, y, width, height]."""
    x, y, w, h = box
    plate = np.full((h, w, 3), 235, dtype=np.uint8)
    cv2.putText(plate, "TV", (w // 8, 4 * h // 5), cv2.FONT_HERSHEY_SIMPLEX, h / 34, (30, 30, 180), 2)
    out = frames.copy()
    out[:, y : y + h, x : x + w] = plate
    return out
