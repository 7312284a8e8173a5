"""Guidance in a stretch of the steps only (Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval
Improves Sample and Distribution Quality in Diffusion Models", arXiv 2404.07724)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from operators.errors import OperatorError
from operators.solvers.base import LatentPrior, Prediction


def guided_steps(interval: Sequence[float], steps: int) -> range:
    """Which of ``steps`` are guided: those whose share of the way, i / steps, lies in [first, last) of
    ``interval``. Raises OperatorError unless 0 <= first < last <= 1."""
    first, last = interval
    if not 0.0 <= first < last <= 1.0:
        raise OperatorError(
            f"guidance_interval: [{first}, {last}] is no stretch of [0, 1]; [0, 0.6] is usual"
        )
    inside = [i for i in range(steps) if first <= i / steps < last]
    return range(inside[0], inside[-1] + 1) if inside else range(0)


class GuidedWithin:
    """``guided`` at the timesteps of the steps ``within``, ``told`` at all others: the prompt alone, one
    network evaluation in the place of two. Timesteps between two steps count with the earlier one."""

    def __init__(
        self, guided: LatentPrior, told: LatentPrior, timesteps: Sequence[int], within: range
    ) -> None:
        self._prior, self._told = guided, told
        # An empty stretch ends where it begins: below every timestep.
        self._highest = timesteps[within.start] if within else -1
        self._above = timesteps[within.stop] if within and within.stop < len(timesteps) else -1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)

    def predict(self, z: Tensor, t: int) -> Prediction:
        """The prediction by the rule that holds at ``t``."""
        prior = self._prior if self._above < t <= self._highest else self._told
        return prior.predict(z, t)
