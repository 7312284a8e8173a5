"""Additive stripes: every line carries an offset of its own, which is projected out."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from operators.degradations.cosine import cosine_basis
from operators.degradations.projection import Projection
from operators.errors import OperatorError


class Destriping(Projection):
    """What is measured of y = x + s 1^T + n when the line offsets s are unknown: A x = x - P x.

    P projects onto pictures whose lines are constant and whose profile across lines varies with periods
    of at most ``longest_period`` pixels (DCT-II components); slower shading is trusted. ``horizontal``
    stripes have one offset per row and channel. A = A^T = A^+ is an orthogonal projector. The definition
    is ours: the literature names the task and not the operator.
    """

    def __init__(
        self,
        height: int,
        width: int,
        orientation: Literal["horizontal", "vertical"] = "horizontal",
        longest_period: float = 32.0,
    ) -> None:
        super().__init__(height, width)
        if orientation not in ("horizontal", "vertical"):
            raise OperatorError(
                f"degradation.orientation: {orientation!r} is unknown; use horizontal or vertical"
            )
        lines = height if orientation == "horizontal" else width
        if not 2.0 <= longest_period <= 2.0 * lines:
            raise OperatorError(
                f"degradation.longest_period: {longest_period} is outside [2, {2 * lines}] pixels, twice the "
                "lines of the picture"
            )
        # Component k of the DCT-II goes through k / 2 periods over the picture; k = 0 is its mean.
        first = max(1, math.ceil(2.0 * lines / longest_period))
        self._along = 3 if orientation == "horizontal" else 2
        self._basis = cosine_basis(lines)[first:]

    def apply(self, x: Tensor) -> Tensor:
        basis = self._basis.to(x.dtype).to(x.device)
        profile = x.mean(self._along)
        return x - (profile @ basis.T @ basis).unsqueeze(self._along)

    def classical(self, y: Tensor) -> Tensor:
        return self.apply(y)
