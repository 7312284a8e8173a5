"""What a solver costs, counted where it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from operators.solvers.base import LatentPrior, Prediction
from operators.solvers.guidance import Branches


@dataclass
class Evaluations:
    """Rows (pictures) that passed through each part; per picture: divide by the batch.

    ``forward`` and ``backward``: the network. ``encode`` and ``decode``: the autoencoder, with ``_back`` for
    the passes of gradients through it.
    """

    forward: int = 0
    backward: int = 0
    encode: int = 0
    decode: int = 0
    encode_back: int = 0
    decode_back: int = 0


class CountingPrior:
    """A prior that counts; everything else is the wrapped prior's. Read ``evaluations``."""

    def __init__(self, prior: LatentPrior) -> None:
        self._prior = prior
        self.evaluations = Evaluations()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._prior, name)
        return self._counted(found) if name == "branches" else found

    def encode(self, x: Tensor) -> Tensor:
        """Counted."""
        self.evaluations.encode += len(x)
        return self._prior.encode(_watched(x, self.evaluations, "encode_back"))

    def decode(self, z: Tensor) -> Tensor:
        """Counted."""
        self.evaluations.decode += len(z)
        return self._prior.decode(_watched(z, self.evaluations, "decode_back"))

    def predict(self, z: Tensor, t: int) -> Prediction:
        """Counted once, whatever guidance does behind it."""
        self.evaluations.forward += len(z)
        return self._prior.predict(_watched(z, self.evaluations, "backward"), t)

    def _counted(self, branches: Callable[[Tensor, int], Branches]) -> Callable[[Tensor, int], Branches]:
        """``branches`` of the wrapped prior: two evaluations, or one where both are the same."""

        def counted(z: Tensor, t: int) -> Branches:
            both = branches(_watched(z, self.evaluations, "backward"), t)
            self.evaluations.forward += len(z) * (1 if both.uncond is both.cond else 2)
            return both

        return counted


class _Watch(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: Tensor, evaluations: Evaluations, field: str) -> Tensor:
        context.counted = (evaluations, field, len(value))
        return value.view_as(value)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        evaluations, field, rows = context.counted
        setattr(evaluations, field, getattr(evaluations, field) + rows)
        return gradient, None, None


def _watched(value: Tensor, evaluations: Evaluations, field: str) -> Tensor:
    return _Watch.apply(value, evaluations, field) if torch.is_grad_enabled() else value
