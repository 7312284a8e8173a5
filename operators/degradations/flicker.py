"""Exposure flicker: every frame, or every row of a rolling shutter, has an exposure of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator, require_frames
from operators.errors import OperatorError


class ExposureFlicker(ForwardOperator):
    """y01 = g x01 with a known gain per frame and row, v01 = (v + 1) / 2. Not clipped.

    ``gains``: positive float64 (T, H). On [-1, 1] A(x) = g (x + 1) - 1 is affine, so ``linear`` is False;
    ``adjoint`` is that of the linear part, and pseudo-inverse and prox take the offset into account.
    """

    linear = False

    def __init__(self, width: int, gains: Tensor) -> None:
        if gains.ndim != 2 or not bool((gains > 0.0).all()):
            raise OperatorError(
                f"degradation.gains: expected positive gains (frames, rows), got shape {tuple(gains.shape)}"
            )
        super().__init__(gains.shape[1], width)
        self.frames = gains.shape[0]
        self._gains = gains.double()[:, None, :, None]

    def apply(self, x: Tensor) -> Tensor:
        require_frames(len(x), self.frames)
        return self._like(x) * (x + 1.0) - 1.0

    def adjoint(self, y: Tensor) -> Tensor:
        return self._like(y) * y

    def pinv(self, y: Tensor) -> Tensor:
        return (y + 1.0) / self._like(y) - 1.0

    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        gains = self._like(x)
        return x + gamma * gains / (1.0 + gamma * gains.square()) * (y - self.apply(x))

    def classical(self, y: Tensor) -> Tensor:
        return self.pinv(y)

    def _like(self, x: Tensor) -> Tensor:
        return self._gains.to(x.dtype).to(x.device)


def rolling_gains(
    ordinals: Sequence[int],
    height: int,
    depth: float,
    cycles_per_frame: float,
    rows_per_cycle: float,
    phase: float = 0.0,
) -> Tensor:
    """Gains (T, H) of a rolling shutter under pulsing light: 1 + depth sin(2 pi (c t + row / r + phase)).

    ``ordinals``: the frames' absolute numbers t; ``depth`` in [0, 1). An infinite ``rows_per_cycle`` is a
    global shutter, whose frames flicker as wholes.
    """
    if not 0.0 <= depth < 1.0:
        raise OperatorError(f"degradation.depth: {depth} is outside [0, 1)")
    if not rows_per_cycle > 0.0:
        raise OperatorError(f"degradation.rows_per_cycle: {rows_per_cycle} is not above zero")
    times = torch.tensor(list(ordinals), dtype=torch.float64)[:, None] * cycles_per_frame
    rows = torch.arange(height, dtype=torch.float64) / rows_per_cycle
    return 1.0 + depth * torch.sin(2.0 * math.pi * (times + rows + phase))
