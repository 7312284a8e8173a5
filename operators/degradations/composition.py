"""One degradation after another."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator, Halo, NonlinearOperator
from operators.degradations.normal_equations import regularised_solution
from operators.degradations.separable import SINGULAR_THRESHOLD, SeparableOperator
from operators.errors import OperatorError


class _Chain(ForwardOperator):
    """What all compositions share; ``parts`` in the order in which they happened."""

    def __init__(self, *parts: ForwardOperator) -> None:
        super().__init__(parts[0].height, parts[0].width)
        for earlier, later in itertools.pairwise(parts):
            _require_fit(earlier, later)
        self.parts = parts
        self.scale = math.prod(part.scale for part in parts)
        self.halo = Halo(sum(part.halo.before for part in parts), sum(part.halo.after for part in parts))
        self.frames = parts[0].frames
        self.noise_model = parts[-1].noise_model
        self.differentiable = all(part.differentiable for part in parts)

    @property
    def measured_shape(self) -> tuple[int, int, int]:
        return self.parts[-1].measured_shape

    def measured_frames(self, frames: int) -> int:
        for part in self.parts:
            frames = part.measured_frames(frames)
        return frames

    def apply(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part.apply(x)
        return x

    def classical(self, y: Tensor) -> Tensor:
        """Every part undone classically, the last one first."""
        for part in reversed(self.parts):
            y = part.classical(y)
        return y

    def restrict(self, y: Tensor) -> Tensor:
        return self.parts[-1].restrict(y)


class LinearComposition(_Chain):
    """A = A_n ... A_1 of linear operators.

    The prox is solved by conjugate gradients to ``CG_TOLERANCE``, and the pseudo-inverse is the Tikhonov
    solution with weight ``SINGULAR_THRESHOLD`` squared, as for reflected blurs. The noise is that of the
    last part.
    """

    def adjoint(self, y: Tensor) -> Tensor:
        for part in reversed(self.parts):
            y = part.adjoint(y)
        return y

    def pinv(self, y: Tensor) -> Tensor:
        rhs = self.adjoint(y)
        return regularised_solution(self, rhs, torch.zeros_like(rhs), SINGULAR_THRESHOLD**2)

    def prox(self, x: Tensor, y: Tensor, gamma: float) -> Tensor:
        if gamma == 0.0:
            return x
        return regularised_solution(self, self.adjoint(y) + x / gamma, x, 1.0 / gamma)


class NonlinearComposition(_Chain, NonlinearOperator):
    """A = A_n o ... o A_1 with a nonlinear part: known by ``apply`` and its derivative alone.

    The noise is that of the last part.
    """


class SeparableComposition(SeparableOperator):
    """Separable operators one after another: the product of their matrices, so everything stays exact."""

    def __init__(self, *parts: SeparableOperator) -> None:
        left, right = parts[0].left, parts[0].right
        for earlier, later in itertools.pairwise(parts):
            _require_fit(earlier, later)
            left, right = later.left @ left, later.right @ right
        super().__init__(left, right)
        self.parts = parts
        self.scale = math.prod(part.scale for part in parts)
        self.noise_model = parts[-1].noise_model

    def classical(self, y: Tensor) -> Tensor:
        """Every part undone classically, the last one first."""
        for part in reversed(self.parts):
            y = part.classical(y)
        return y


def compose(*parts: ForwardOperator) -> ForwardOperator:
    """The composition of ``parts``, given in the order in which they happened, as exact as they allow.

    Raises OperatorError when one part does not fit what the one before leaves.
    """
    if not parts:
        raise OperatorError("degradation: nothing to compose; give at least one operator")
    if len(parts) == 1:
        return parts[0]
    for part in parts:
        if not part.complete:
            raise OperatorError(
                f"degradation: {type(part).__name__} cannot be composed with others, for only its own prox "
                "knows which values count; restore it in a stage of its own"
            )
    separable = [part for part in parts if isinstance(part, SeparableOperator)]
    if len(separable) == len(parts):
        return SeparableComposition(*separable)
    if all(part.linear for part in parts):
        return LinearComposition(*parts)
    return NonlinearComposition(*parts)


def _require_fit(earlier: ForwardOperator, later: ForwardOperator) -> None:
    expected = (3, later.height, later.width)
    if earlier.measured_shape != expected:
        raise OperatorError(
            f"degradation: {type(earlier).__name__} gives {earlier.measured_shape} and "
            f"{type(later).__name__} takes {expected} (channels, height, width); build each for the size "
            "that the one before leaves"
        )
