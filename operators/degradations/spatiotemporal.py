"""A spatial and a temporal degradation of one clip; acting on different axes, they commute."""

from __future__ import annotations

import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.degradations.temporal import TemporalOperator, along_time
from operators.errors import OperatorError


class SpatioTemporal(ForwardOperator):
    """A = A_s o A_t, A^T = A_t^T o A_s^T, A^+ = A_t^+ o A_s^+.

    ``spatial`` acts on every frame alike and must be linear. The prox is exact whenever the spatial one
    is: with A_t = U diag(s) V^T every temporal mode is a spatial problem of its own, of weight gamma s^2.
    """

    def __init__(self, spatial: ForwardOperator, temporal: TemporalOperator) -> None:
        super().__init__(spatial.height, spatial.width)
        if not spatial.linear or spatial.frames is not None or spatial.couples_frames:
            raise OperatorError(
                f"degradation: {type(spatial).__name__} cannot be combined with a temporal operator; "
                "the spatial part must be linear and the same for every frame"
            )
        self.spatial = spatial
        self.temporal = temporal
        self.scale = spatial.scale
        self.frames = temporal.frames
        self.halo = temporal.halo
        self.noise_model = spatial.noise_model
        self.complete = spatial.complete
        self.has_pinv = spatial.has_pinv
        self.has_prox = spatial.has_prox and spatial.quadratic

    @property
    def measured_shape(self) -> tuple[int, int, int]:
        return self.spatial.measured_shape

    def measured_frames(self, frames: int) -> int:
        return self.temporal.measured_frames(frames)

    def apply(self, x: Tensor) -> Tensor:
        return self.spatial.apply(self.temporal.apply(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.temporal.adjoint(self.spatial.adjoint(y))

    def pinv(self, y: Tensor) -> Tensor:
        return self.temporal.pinv(self.spatial.pinv(y))

    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        if not self.has_prox:
            raise OperatorError(
                f"degradation: {type(self.spatial).__name__} combined with a temporal operator has no "
                "closed-form prox; use a solver that takes gradients through the operator"
            )
        u, s, v = self.temporal.modes
        pictures, measured = along_time(v.T, x), along_time(u.T, y)
        moved = [
            self.spatial.prox(pictures[i : i + 1], measured[i : i + 1] / strength, gamma * strength**2)
            for i, strength in enumerate(s.tolist())
        ]
        return x + along_time(v, torch.cat(moved) - pictures)

    def classical(self, y: Tensor) -> Tensor:
        return self.temporal.classical(self.spatial.classical(y))

    def restrict(self, y: Tensor) -> Tensor:
        return self.spatial.restrict(y)
