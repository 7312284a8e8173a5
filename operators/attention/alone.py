"""A prior whose network calls read nothing: for source branches beside an edit that shares attention."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from operators.attention.reading import ALONE
from operators.attention.session import SharedAttention
from operators.solvers.base import LatentPrior, Prediction


class Alone:
    """Every row attends to itself, whatever the ``session`` reads; the rest is the wrapped prior's."""

    def __init__(self, prior: LatentPrior, session: SharedAttention) -> None:
        self._prior, self._session = prior, session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)

    def predict(self, z: Tensor, t: int) -> Prediction:
        """The wrapped prior's prediction without sharing."""
        with self._session.under(ALONE):
            return self._prior.predict(z, t)
