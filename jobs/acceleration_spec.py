"""What an item of ``enhance`` may leave out to be faster: frozen values.

What goes with which solver and stylization is in `pipeline.acceleration_fit`.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from jobs.spec_base import Section, problem
from pipeline.acceleration_fit import deepcache_misfit, interval_misfit

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class DeepCacheSpec(Section):
    """The whole network at every ``every``-th step, and its last blocks alone on features kept from there at
    the others (Ma, Fang and Wang 2024). 1 is the whole network at every step."""

    every: Annotated[int, Field(ge=1, le=50)] = 3


class Acceleration(Section):
    """What is left out; nothing unless it is asked for."""

    deepcache: DeepCacheSpec | None = None


class Accelerated(Section):
    """``acceleration``: work that is left out. ``guidance_interval``: the share of the way, [first, last) out
    of [0, 1], on which ``guidance`` counts; elsewhere the prompt is followed alone, at half the price
    (Kynkäänniemi et al. 2024)."""

    acceleration: Acceleration | None = None
    guidance_interval: Annotated[tuple[Share, Share], Field(strict=False)] | None = None

    @model_validator(mode="after")
    def _acceleration_fits(self) -> Self:
        if self.acceleration is None and self.guidance_interval is None:
            return self
        item = self.model_dump(exclude_none=True)
        for member, refused in (
            ("guidance_interval", interval_misfit(item)),
            ("acceleration.deepcache", deepcache_misfit(item)),
        ):
            if refused:
                raise problem(refused, member)
        return self
