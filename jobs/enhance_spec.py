"""What a job may do to frames: restorations and stylizations, as validated frozen values."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from jobs.degradation_spec import Degradation
from jobs.places import Place
from jobs.spec_base import Section, problem


class Dpir(Section):
    """Deterministic plug-and-play half-quadratic splitting with the latent prior as denoiser."""

    name: Literal["dpir"] = "dpir"
    steps: Annotated[int, Field(ge=1, le=50)] | None = None


class Psld(Section):
    """Posterior sampling with latent diffusion (Rout et al. 2023): weights of the two gradient terms."""

    name: Literal["psld"]
    steps: Annotated[int, Field(ge=1, le=999)] = 50
    omega: Annotated[float, Field(gt=0.0, le=1000.0)] | None = None
    gamma: Annotated[float, Field(ge=0.0, le=100.0)] | None = None


class Restore(Section):
    """Undo a known degradation."""

    degradation: Annotated[Degradation, Field(discriminator="kind")]
    solver: Annotated[Dpir | Psld, Field(discriminator="name")] = Dpir()


class StyleAligned(Section):
    """Shared attention with a style reference (Hertz et al. 2023).

    ``shift`` is added to the logits of the reference's keys; ``adain`` aligns queries and keys to the
    reference; ``norms`` shares group normalisation statistics as well; ``statistics`` in [0, 1] weighs the
    alignment of latent channel statistics.
    """

    name: Literal["style_aligned"] = "style_aligned"
    steps: Annotated[int, Field(ge=1, le=200)] = 10
    shift: Annotated[float, Field(ge=-10.0, le=10.0)] = math.log(2.0)
    adain: bool = True
    norms: bool = False
    statistics: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0


class Stylize(Section):
    """Move frames towards the look of a reference picture; ``strength`` 1 forgets the most content.

    ``guidance`` is the classifier-free guidance scale of the prompt; 1 means none.
    """

    reference: Place
    method: StyleAligned = StyleAligned()
    prompt: str = ""
    guidance: Annotated[float, Field(ge=1.0, le=50.0)] = 1.0
    strength: Annotated[float, Field(gt=0.0, le=1.0)] = 0.6

    @model_validator(mode="after")
    def _guidance_has_a_prompt(self) -> Self:
        if self.guidance > 1.0 and not self.prompt:
            raise problem("guidance above 1 needs a prompt; write one or leave guidance at 1", "guidance")
        return self


class Enhancement(Section):
    """One item of ``enhance``: exactly one of restore and stylize."""

    restore: Restore | None = None
    stylize: Stylize | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.restore is None) == (self.stylize is None):
            found = "neither" if self.restore is None else "both"
            raise problem(
                f"found {found} of restore and stylize; each item does exactly one; "
                "write two items to do both, in the order wanted"
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values with every default written out and absent alternatives left out."""
        return self.model_dump(mode="json", exclude_none=True)
