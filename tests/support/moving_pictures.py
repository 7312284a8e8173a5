"""Pictures whose motion is known exactly, also between pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float64]


def texture(
    height: int, width: int, at: tuple[float, float] = (0.0, 0.0), *, seed: int = 0, shortest: float = 8.0
) -> Picture:
    """RGB [H, W, 3] on [0.1, 0.9] that shows x - ``at`` (x, y): a sum of waves of ``shortest`` to 60 pixels,
    evaluated where it is wanted and never resampled."""
    rng = np.random.Generator(np.random.PCG64(seed))
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    waves = 24
    angle = rng.uniform(0, 2 * np.pi, (waves, 1))
    number = 2 * np.pi / np.exp(rng.uniform(np.log(shortest), np.log(60.0), (waves, 1)))
    phase, gain = rng.uniform(0, 2 * np.pi, (waves, 3)), rng.uniform(0.3, 1.0, (waves, 3))
    along = np.cos(angle) * (columns - at[0]).ravel() + np.sin(angle) * (rows - at[1]).ravel()
    picture = np.einsum("wc,wcn->nc", gain, np.sin(number[:, :, None] * along[:, None] + phase[:, :, None]))
    # Three standard deviations of a sum of that many waves fill the range.
    return (0.5 + 0.4 * (picture / (3 * np.sqrt((gain**2).sum(0) / 2))).clip(-1, 1)).reshape(height, width, 3)


def codes(picture: Picture) -> NDArray[np.uint8]:
    """uint8 of a picture on [0, 1]."""
    rounded: NDArray[np.uint8] = np.rint(picture.clip(0, 1) * 255).astype(np.uint8)
    return rounded


def pan(count: int, velocity: tuple[float, float], height: int = 96, width: int = 128) -> list[Picture]:
    """``count`` frames of a texture that moves by ``velocity`` pixels (x, y) per frame."""
    return [texture(height, width, (velocity[0] * i, velocity[1] * i)) for i in range(count)]
