"""Interlacing: two moments in one frame, a field of lines each."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.degradations.base import ForwardOperator, Halo
from operators.errors import OperatorError


class Interlace(ForwardOperator):
    """y_t takes the even rows of x_2t and the odd rows of x_2t+1 (``first`` top), or the other way round.

    [2T, 3, H, W] to [T, 3, H, W]: restoring is deinterlacing to the field rate. A A^T = I, A^+ = A^T.
    """

    halo = Halo(1, 1)

    def __init__(self, height: int, width: int, first: Literal["top", "bottom"] = "top") -> None:
        super().__init__(height, width)
        if first not in ("top", "bottom"):
            raise OperatorError(f"degradation.first: {first!r} is unknown; use top or bottom")
        if height < 2:
            raise OperatorError(f"degradation: a picture of {height} row has no two fields; give two rows")
        self._parities = (0, 1) if first == "top" else (1, 0)

    def measured_frames(self, frames: int) -> int:
        if frames % 2:
            raise OperatorError(
                f"degradation: {frames} frames do not pair up into fields; give an even number"
            )
        return frames // 2

    def apply(self, x: Tensor) -> Tensor:
        self.measured_frames(len(x))
        early, late = x[0::2], x[1::2]
        return torch.where(_parity(x) == self._parities[0], early, late)

    def adjoint(self, y: Tensor) -> Tensor:
        fields = [torch.where(_parity(y) == parity, y, torch.zeros_like(y)) for parity in self._parities]
        return torch.stack(fields, dim=1).flatten(0, 1)

    def pinv(self, y: Tensor) -> Tensor:
        return self.adjoint(y)

    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        return x + gamma / (1.0 + gamma) * self.adjoint(y - self.apply(x))

    def classical(self, y: Tensor) -> Tensor:
        """Bob: every field's missing rows are the mean of the rows above and below."""
        known = self.adjoint(y)
        weight = torch.stack([(_parity(y) == parity).to(y.dtype) for parity in self._parities])[:, None]
        weight = weight.repeat(len(y), 1, 1, 1)
        spread = _vertical_sum(known) / _vertical_sum(weight.expand(-1, 1, -1, 1))
        return torch.where(weight > 0, known, spread)


def _parity(x: Tensor) -> Tensor:
    """Row number modulo two, [H, 1]."""
    return torch.arange(x.shape[2], device=x.device).view(-1, 1) % 2


def _vertical_sum(x: Tensor) -> Tensor:
    """Sum of the rows above and below, [B, C, H, W]; beyond the picture there is nothing."""
    padded = F.pad(x, (0, 0, 1, 1))
    return padded[:, :, :-2] + padded[:, :, 2:]
