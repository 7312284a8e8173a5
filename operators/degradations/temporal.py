"""Operators that mix the frames of one clip and leave pixels alone: y = M x along time."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator, Halo, require_frames
from operators.degradations.blur import wiener_weight
from operators.degradations.kernels import box_kernel, gaussian_kernel
from operators.errors import OperatorError

Ends = Literal["replicate", "circular"]

# Singular values below this count as zero: M is known exactly and small.
RANK_TOLERANCE = 1e-9


class TemporalOperator(ForwardOperator):
    """y_s = sum_t M[s, t] x_t for a clip [T, 3, H, W]; ``matrix`` M is float64 (S, T).

    Pseudo-inverse and prox are exact by the SVD of M.
    """

    def __init__(self, height: int, width: int, matrix: Tensor) -> None:
        super().__init__(height, width)
        self.matrix = matrix
        self.frames = matrix.shape[1]

    def measured_frames(self, frames: int) -> int:
        return self.matrix.shape[0]

    def apply(self, x: Tensor) -> Tensor:
        require_frames(len(x), self.frames)
        return along_time(self.matrix, x)

    def adjoint(self, y: Tensor) -> Tensor:
        return along_time(self.matrix.T, y)

    def pinv(self, y: Tensor) -> Tensor:
        u, s, v = self.modes
        return along_time(v / s @ u.T, y)

    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        # In the singular basis the normal equations are diagonal; what M does not see stays x.
        u, s, v = self.modes
        residual = along_time(u.T, y) - along_time(s[:, None] * v.T, x)
        return x + along_time(v * (gamma * s / (1.0 + gamma * s.square())), residual)

    @cached_property
    def modes(self) -> tuple[Tensor, Tensor, Tensor]:
        """U (S, r), s (r), V (T, r) with M = U diag(s) V^T and all s above ``RANK_TOLERANCE``."""
        u, s, vh = torch.linalg.svd(self.matrix, full_matrices=False)
        kept = s > RANK_TOLERANCE
        return u[:, kept], s[kept], vh[kept].T

    @abstractmethod
    def classical(self, y: Tensor) -> Tensor:
        """[S, 3, H, W] to [T, 3, H, W]."""


class TemporalAverage(TemporalOperator):
    """y_j = mean of frames rate j .. rate j + rate - 1, a long exposure.

    A clip that ends within a group is continued by its last frame. A^+ repeats where groups are full.
    """

    def __init__(self, height: int, width: int, frames: int, rate: int) -> None:
        _require_rate(rate, frames)
        super().__init__(height, width, average_matrix(frames, rate))
        self.halo = Halo(rate - 1, rate - 1)
        self._rate = rate

    def classical(self, y: Tensor) -> Tensor:
        return y.repeat_interleave(self._rate, 0)[: self.matrix.shape[1]]


class TemporalSubsampling(TemporalOperator):
    """y_j = frame rate j: restoring the frames between is interpolation in time. A A^T = I, A^+ = A^T."""

    def __init__(self, height: int, width: int, frames: int, rate: int) -> None:
        _require_rate(rate, frames)
        super().__init__(height, width, torch.eye(frames, dtype=torch.float64)[::rate])
        self.halo = Halo(rate - 1, rate - 1)
        self._rate = rate

    def classical(self, y: Tensor) -> Tensor:
        """Linear between the measured frames, the last one held."""
        places = torch.arange(self.matrix.shape[1])
        left = places // self._rate
        right = (left + 1).clamp_max(len(y) - 1)
        share = ((places % self._rate) / self._rate).to(y.dtype).to(y.device).view(-1, 1, 1, 1)
        return y[left] + share * (y[right] - y[left])


class TemporalBlur(TemporalOperator):
    """y_t = sum_j k_j x_{t+j}: a slow shutter, with an odd 1-D ``kernel`` float64.

    Ends are replicated (not self-adjoint: the last frame gathers the weights beyond the clip) or periodic
    over the clip, which is the convention of SVI (Kwon and Ye 2025).
    """

    def __init__(
        self, height: int, width: int, frames: int, kernel: Tensor, ends: Ends = "replicate"
    ) -> None:
        super().__init__(height, width, blur_matrix(frames, kernel, ends))
        self.halo = Halo(len(kernel) // 2, len(kernel) // 2)

    def classical(self, y: Tensor) -> Tensor:
        """Wiener-type deconvolution towards ``y`` itself."""
        return self.prox(y, y, wiener_weight(self.noise_model.sigma))


class WindowBlur(TemporalOperator):
    """`TemporalBlur` of ``frames`` frames out of a longer clip.

    ``open_ends``: whether the clip goes on before and after them. There only frames all of whose neighbours
    are known are measured, which are fewer than are restored; at the clip's own ends frames are replicated.
    """

    def __init__(
        self, height: int, width: int, frames: int, kernel: Tensor, open_ends: tuple[bool, bool]
    ) -> None:
        radius = len(kernel) // 2
        lead, tail = (radius * is_open for is_open in open_ends)
        whole = _correlation(frames, kernel)
        super().__init__(height, width, whole[lead : frames - tail])
        self.halo = Halo(radius, radius)
        self._lead = lead

    def classical(self, y: Tensor) -> Tensor:
        """Wiener-type deconvolution towards the nearest measured frame."""
        places = (torch.arange(self.matrix.shape[1]) - self._lead).clamp(0, len(y) - 1)
        return self.prox(y[places], y, wiener_weight(self.noise_model.sigma))


def uniform_temporal_kernel(taps: int) -> Tensor:
    """Mean over an odd number of frames."""
    if taps % 2 == 0:
        raise OperatorError(f"degradation.taps: {taps} is even; a blur centred on a frame has odd taps")
    return box_kernel(taps)


def gaussian_temporal_kernel(sigma: float) -> Tensor:
    """Gaussian of ``sigma`` frames, radius ceil(4 sigma)."""
    return gaussian_kernel(sigma)


def average_matrix(frames: int, rate: int) -> Tensor:
    """Means of groups of ``rate`` frames, float64 (ceil(frames / rate), frames)."""
    groups = -(-frames // rate)
    sources = torch.arange(groups * rate).clamp_max(frames - 1)
    matrix = torch.zeros(groups, frames, dtype=torch.float64)
    weights = torch.full((groups, rate), 1.0 / rate, dtype=torch.float64)
    return matrix.scatter_add_(1, sources.view(groups, rate), weights)


def blur_matrix(frames: int, kernel: Tensor, ends: Ends) -> Tensor:
    """Correlation with ``kernel`` along time, float64 (frames, frames)."""
    if ends not in ("replicate", "circular"):
        raise OperatorError(f"degradation.ends: {ends!r} is unknown; use replicate or circular")
    if len(kernel) % 2 == 0 or len(kernel) > frames:
        raise OperatorError(
            f"degradation: a temporal kernel of {len(kernel)} taps does not fit a clip of {frames} frames; "
            "use an odd number of taps, at most the number of frames"
        )
    return _correlation(frames, kernel, ends)


def _correlation(frames: int, kernel: Tensor, ends: Ends = "replicate") -> Tensor:
    offsets = torch.arange(len(kernel)) - len(kernel) // 2
    sources = torch.arange(frames)[:, None] + offsets
    sources = sources % frames if ends == "circular" else sources.clamp(0, frames - 1)
    return torch.zeros(frames, frames, dtype=torch.float64).scatter_add_(
        1, sources, kernel.expand(frames, -1)
    )


def along_time(matrix: Tensor, x: Tensor) -> Tensor:
    """``matrix`` (S, T) times a clip [T, ...], in the dtype and on the device of ``x``."""
    return torch.tensordot(matrix.to(x.dtype).to(x.device), x, dims=1)


def _require_rate(rate: int, frames: int) -> None:
    if not 2 <= rate <= frames:
        raise OperatorError(
            f"degradation.rate: {rate} is outside [2, {frames}], the number of frames of the clip"
        )
