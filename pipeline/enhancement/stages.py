"""From one item of ``enhance`` to what runs: operator, solver, prior and what is read of the style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from operators.attention.session import SharedAttention
from operators.degradations.registry import build_operator, measurement_sigma
from operators.errors import OperatorError
from operators.models import BoundPrior, LatentModel
from operators.replay import Stage, StyleReading
from operators.solvers.base import LatentPrior
from operators.solvers.ddim import leading_timesteps
from operators.solvers.guidance import Guided
from operators.solvers.registry import build_solver
from operators.style.style_aligned import StyleAligned, StyleReference
from operators.style.transport import LatentStatistics
from pipeline.enhancement.references import Arrays
from pipeline.enhancement.sizes import StageSizes
from pipeline.errors import SourceError

Spec = Mapping[str, Any]


@dataclass(frozen=True)
class StageBuilder:
    """Builds the stages of one ``enhance`` list on one model. ``masks``: uint8 [H, W] by number of the stage,
    0 where there is a hole."""

    enhance: Sequence[Spec]
    model: LatentModel
    session: SharedAttention
    sizes: StageSizes
    masks: Mapping[int, np.ndarray[Any, Any]]
    styles: Mapping[int, StyleReference]
    seed: int

    def stage(self, number: int, sides: Sequence[int], content: LatentStatistics | None) -> Stage:
        """Stage ``number`` for pictures of ``sides`` pixels (height, width). ``content`` are the statistics
        of the scene's anchors.

        Raises SourceError, code ``mask_size`` or ``enhance_refused``, when it does not fit them.
        """
        item, key = self.enhance[number], (self.seed, "references")
        measured = self.sizes.padded_sides(number, sides)
        if "restore" in item:
            self._check_mask(number, sides)
            spec, prior = item["restore"], self._prior(item["restore"])
            restored = [side * self.sizes.scale(number) for side in measured]
            try:
                operator = build_operator(spec["degradation"], *restored, self._assets(number, measured))
                sigma = measurement_sigma(spec["degradation"])
                solver = build_solver(spec["solver"], operator, sigma, prior)
            except OperatorError as error:
                raise SourceError(
                    f"enhance.{number}.restore does not fit pictures of {measured[1]}x{measured[0]}: {error}",
                    code="enhance_refused",
                ) from error
            return Stage(solver, prior, self.session, key=key)
        spec = item["stylize"]
        method, style = spec["method"], self.styles[number]
        inversion = BoundPrior(self.model, listener=self.session)
        solver = StyleAligned(timesteps_of(spec), inversion, style, content, method["statistics"])
        reading = StyleReading(style, method["shift"], method["adain"], method["norms"])
        return Stage(solver, self._prior(spec), self.session, reading, key=key)

    def _prior(self, spec: Spec) -> LatentPrior:
        prompt, weight = spec.get("prompt", ""), spec.get("guidance", 1.0)
        if spec.get("rule") == "cfgpp":
            return Guided(BoundPrior(self.model, prompt, 1.0, self.session), weight, "cfgpp")
        return BoundPrior(self.model, prompt, weight, self.session)

    def _check_mask(self, number: int, sides: Sequence[int]) -> None:
        mask = self.masks.get(number)
        if mask is not None and mask.shape != tuple(sides):
            raise SourceError(
                f"enhance.{number}.restore.degradation.mask has {mask.shape[1]}x{mask.shape[0]} pixels, the "
                f"frames have {sides[1]}x{sides[0]}; give a mask of the frames' size",
                code="mask_size",
            )

    def _assets(self, number: int, measured: Sequence[int]) -> Arrays:
        if number not in self.masks:
            return {}
        mask = self.masks[number]
        # Padding is measured: it repeats the edge and is no hole.
        edges = ((0, measured[0] - mask.shape[0]), (0, measured[1] - mask.shape[1]))
        return {"mask": np.pad(mask, edges, constant_values=255)}


def timesteps_of(item: Spec) -> tuple[int, ...]:
    """The timesteps of a stylization."""
    return leading_timesteps(item["method"]["steps"], strength=item["strength"])
