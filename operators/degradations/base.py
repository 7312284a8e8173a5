"""The contract of a forward operator: y = A(x) + n, with an exact adjoint wherever A is linear.

Pictures are [B, 3, H, W] in [-1, 1], float32 or float64, on any device; every method returns the dtype and
device of its first argument. Operators without a halo treat rows independently; those that couple frames
act on a clip [T, 3, H, W] in order of time.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, Self

import torch
from torch import Tensor

from operators.degradations.noise_models import GaussianNoise, Key, NoiseModel
from operators.errors import OperatorError


@dataclass(frozen=True)
class Halo:
    """How many frames ``before`` and ``after`` a frame the measurements that concern it reach."""

    before: int = 0
    after: int = 0


class ForwardOperator(ABC):
    """A degradation of pictures of one fixed size.

    ``height``, ``width``: size of the restored picture x. ``scale``: pixels of x per measured pixel
    along each axis. What an operator can do is said by its flags:

    * ``linear``: A(a x + b y) = a A(x) + b A(y). Only then is A^T A the matrix of normal equations.
    * ``differentiable``: autograd goes through ``apply``, with a stated surrogate where A has steps.
    * ``has_adjoint``, ``has_pinv``, ``has_prox``: the method of that name works; else it raises
      OperatorError. An affine A has an adjoint (of its linear part) without being linear.
    * ``quadratic``: ``prox`` is that of the data term below, the same for all pixels, hence linear in
      (x, y) when A is; else the operator states its own data term.
    * ``complete``: every entry of a restricted y is a measurement. If not, only ``prox`` and ``classical``
      know which entries to leave out, and residuals y - A(x) mean little.
    * ``frames``: None when any batch of pictures will do; T when A is made for one clip of T frames.
    * ``halo``: nonzero when A mixes frames.
    * ``noise_model``: how y scatters around A(x); see ``operators.degradations.noise_models``.
    """

    scale: int = 1
    linear: bool = True
    differentiable: bool = True
    has_adjoint: bool = True
    has_pinv: bool = True
    has_prox: bool = True
    quadratic: bool = True
    complete: bool = True
    frames: int | None = None
    halo: Halo = Halo()
    noise_model: NoiseModel = GaussianNoise(0.0)

    def __init__(self, height: int, width: int) -> None:
        self.height = height
        self.width = width

    @property
    def couples_frames(self) -> bool:
        """Whether what is measured of one frame depends on others."""
        return self.halo != Halo()

    @property
    def measured_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one measured picture."""
        return (3, self.height // self.scale, self.width // self.scale)

    def measured_frames(self, frames: int) -> int:
        """How many measured pictures ``frames`` restored ones cause."""
        return frames

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """A(x), without noise. Differentiable where the flag says so."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y, exact: <A x, y> = <x, A^T y>. Differentiable."""

    @abstractmethod
    def pinv(self, y: Tensor) -> Tensor:
        """A^+ y: A(A^+ A(x)) = A(x); ill-conditioned operators state how theirs is regularised."""

    @abstractmethod
    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        """argmin_u gamma/2 ||A(u) - y||^2 + 1/2 ||u - x||^2, for gamma >= 0; another data term is stated."""

    @abstractmethod
    def classical(self, y: Tensor) -> Tensor:
        """The restoration without a learned prior: baseline of reports and start of solvers."""

    def restrict(self, y: Tensor) -> Tensor:
        """What of a picture [B, 3, h, w] is measured, in the shape that ``apply`` returns.

        Without what a video shows inside a hole, or with one channel for grey. Idempotent.
        """
        return y

    def vjp(self, x: Tensor, u: Tensor) -> Tensor:
        """J(x)^T u with J the Jacobian of A at ``x``: A^T u when A is linear."""
        return self.adjoint(u)

    def simulate(self, x: Tensor, keys: Sequence[Key]) -> Tensor:
        """One draw of y given x; row i of the measurement is drawn with ``keys[i]`` alone."""
        return self.noise_model.sample(self.apply(x), keys)

    def nll(self, x: Tensor, y: Tensor) -> Tensor:
        """-log p(y | x) per measured row [B], up to a constant."""
        return self.noise_model.nll(self.apply(x), self.restrict(y))

    def with_noise(self, noise_model: NoiseModel) -> Self:
        """The same operator with another noise model."""
        other = copy.copy(self)
        other.noise_model = noise_model
        return other


class NonlinearOperator(ForwardOperator):
    """A degradation known by ``apply`` and its derivative; what it lacks it refuses by name."""

    linear = False
    has_adjoint = False
    has_pinv = False
    has_prox = False
    quadratic = False

    def adjoint(self, y: Tensor) -> Tensor:
        self._refuse("adjoint", "vjp gives the transposed Jacobian at a picture")

    def pinv(self, y: Tensor) -> Tensor:
        self._refuse("pseudo-inverse", "start from classical")

    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        self._refuse("closed-form prox", "use a solver that takes gradients through the operator")

    def vjp(self, x: Tensor, u: Tensor) -> Tensor:
        keep_graph = torch.is_grad_enabled() and (x.requires_grad or u.requires_grad)
        with torch.enable_grad():
            at = x if x.requires_grad else x.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.apply(at), at, u, create_graph=keep_graph)
        return gradient

    def _refuse(self, lacking: str, instead: str) -> NoReturn:
        raise OperatorError(f"degradation: {type(self).__name__} has no {lacking}; {instead}")


def require_frames(given: int, expected: int | None) -> None:
    """Raises OperatorError when an operator made for a clip of ``expected`` frames meets another."""
    if expected is not None and given != expected:
        raise OperatorError(
            f"degradation: the operator is made for a clip of {expected} frames and was given {given}; "
            "build it for the frames at hand"
        )
