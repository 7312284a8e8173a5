"""How frames agree with each other: the ``consistency`` part of a job file."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from jobs.spec_base import Section, problem, suggestion
from pipeline.settings import ConsistencySettings, Knots
from pipeline.sharing_policies import FUSIBLE, MERGEABLE, POLICIES


class NoiseSpec(Section):
    """``rho`` in [0, 1]: the share of a frame's noise that its scene has in common. ``warp``: the rest moves
    with the picture from knot to knot."""

    rho: Annotated[float, Field(ge=0.0, le=1.0)] = ConsistencySettings.rho
    warp: bool = ConsistencySettings.warp_noise


class ConsistencySpec(Section):
    """How frames share attention; see `pipeline.settings.ConsistencySettings`."""

    sharing: Annotated[str, Field(json_schema_extra={"enum": list(POLICIES)})] = ConsistencySettings.sharing
    anchors: Annotated[int, Field(ge=1, le=16)] = ConsistencySettings.anchors
    knots: Knots = ConsistencySettings.knots
    knot_every: Annotated[int, Field(ge=2, le=256)] = ConsistencySettings.knot_every
    knots_per_chunk: Annotated[int, Field(ge=1, le=256)] = ConsistencySettings.knots_per_chunk
    noise: NoiseSpec = NoiseSpec()
    frames_per_batch: Annotated[int, Field(ge=1, le=64)] = ConsistencySettings.frames_per_batch
    merge: Annotated[float, Field(ge=0.0, le=1.0)] = ConsistencySettings.merge
    fusion: Annotated[float, Field(ge=0.0, le=1.0)] = ConsistencySettings.fusion

    @field_validator("sharing")
    @classmethod
    def _is_available(cls, sharing: str) -> str:
        if sharing not in POLICIES:
            hint = suggestion(sharing, tuple(POLICIES))
            raise problem(f"expected one of {', '.join(POLICIES)}, found {sharing!r}{hint}")
        return sharing

    @model_validator(mode="after")
    def _goes_with_the_policy(self) -> Self:
        for name, value, fitting in (("merge", self.merge, MERGEABLE), ("fusion", self.fusion, FUSIBLE)):
            if value and self.sharing not in fitting:
                raise problem(
                    f"{name} needs sharing {' or '.join(fitting)}, found {self.sharing!r}; set {name}: 0, or "
                    f"sharing: {fitting[0]}",
                    name,
                )
        if self.sharing == "sparse_causal" and self.frames_per_batch != 1:
            raise problem(
                "sparse_causal goes frame by frame, since each reads the one before it; set it to 1",
                "frames_per_batch",
            )
        return self

    @model_validator(mode="after")
    def _warped_noise_has_knots(self) -> Self:
        if self.noise.warp and self.sharing not in FUSIBLE:
            raise problem(
                f"noise is warped from knot to knot, and sharing {self.sharing} has none; use knots, "
                f"another of {', '.join(FUSIBLE)}, or warp: false",
                "noise.warp",
            )
        return self
