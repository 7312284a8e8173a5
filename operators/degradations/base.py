"""The contract of a forward operator: y = A x + n, A linear, with an exact adjoint.

All pictures are [B, 3, H, W] (or the measured size) in [-1, 1], float32 or float64, on any device;
every method returns the dtype and device of its first argument and treats batch rows independently.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class ForwardOperator(ABC):
    """A linear degradation of pictures of one fixed size.

    ``height``, ``width``: size of the restored picture x. ``scale``: pixels of x per measured pixel
    along each axis, so measurements are [B, 3, height / scale, width / scale].
    """

    scale: int = 1

    def __init__(self, height: int, width: int) -> None:
        self.height = height
        self.width = width

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """A x. Differentiable."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y, exact: <A x, y> = <x, A^T y>. Differentiable."""

    @abstractmethod
    def pinv(self, y: Tensor) -> Tensor:
        """A^+ y; ill-conditioned operators state how theirs is regularised. Differentiable."""

    @abstractmethod
    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        """argmin_u gamma/2 ||A u - y||^2 + 1/2 ||u - x||^2, for gamma >= 0."""

    @abstractmethod
    def classical(self, y: Tensor) -> Tensor:
        """The restoration without a learned prior: baseline of reports and start of solvers."""

    def restrict(self, y: Tensor) -> Tensor:
        """``y`` without the entries that measure nothing (what a video shows inside a hole)."""
        return y
