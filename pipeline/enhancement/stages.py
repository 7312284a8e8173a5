"""From one item of ``enhance`` to what runs: operator, solver, prior and what is read of the style."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from operators.acceleration.deepcache import DeepCache
from operators.acceleration.switches import cache_schedule
from operators.adapters.control import SourceControl
from operators.adapters.image_prompt import ImagePrompt
from operators.attention.session import SharedAttention
from operators.degradations.registry import build_operator, measurement_sigma
from operators.errors import OperatorError
from operators.models import LatentModel
from operators.prompted import prompted, prompted_within
from operators.replay import Stage
from operators.solvers.ddim import leading_timesteps
from operators.solvers.flow_loss import ClipFlows
from operators.solvers.registry import build_solver
from operators.style.bank import StyleBank
from operators.style.methods import Styles
from pipeline.enhancement.references import Arrays, learned_of, statistics_of
from pipeline.enhancement.sizes import StageSizes
from pipeline.errors import SourceError
from pipeline.sharing_policies import LEARNING
from pipeline.style_strength import at_strength, schedule_share

Spec = Mapping[str, Any]

#: Degradations that differ from frame to frame.
TIMED = ("flicker", "temporal_blur")


@dataclass(frozen=True)
class StageBuilder:
    """Builds the stages of one ``enhance`` list on one model. ``masks``: uint8 [H, W] by number of the stage,
    0 where the file is white."""

    enhance: Sequence[Spec]
    model: LatentModel
    session: SharedAttention
    sizes: StageSizes
    masks: Mapping[int, np.ndarray[Any, Any]]
    styles: Mapping[int, StyleBank]
    seed: int
    control: SourceControl
    image_prompt: ImagePrompt | None = None

    def learns(self, number: int) -> bool:
        """Whether the solver of stage ``number`` finds out something about the operator."""
        restore = self.enhance[number].get("restore")
        return restore is not None and restore["solver"]["name"] in LEARNING

    def knows_time(self, number: int) -> bool:
        """Whether what happened to a frame in stage ``number`` depends on its place in the video."""
        restore = self.enhance[number].get("restore")
        return restore is not None and restore["degradation"]["kind"] in TIMED

    def stage(
        self,
        number: int,
        sides: Sequence[int],
        scene: Arrays | None,
        *,
        learn: bool = False,
        controlled: bool = False,
        own: Mapping[str, np.ndarray[Any, Any]] = types.MappingProxyType({}),
        flows: ClipFlows | None = None,
    ) -> Stage:
        """Stage ``number`` for pictures of ``sides`` pixels (height, width). ``scene`` is what its anchors
        left: the statistics of their latents, and what they taught about the operator. To ``learn`` is to
        find that out, from all rows together. ``controlled``: the frames are anchors or knots.
        ``own`` are assets of the frames at hand: ``mask`` uint8 [B, h, w], ``ordinals`` int [B], ``rows`` the
        height before padding, ``open_ends``; ``flows`` their motion.

        Raises SourceError, code ``mask_size`` or ``enhance_refused``, when it does not fit them.
        """
        item, key = self.enhance[number], (self.seed, "references")
        measured = self.sizes.padded_sides(number, sides)
        if "restore" in item:
            given = {"mask": self.masks[number]} if number in self.masks else {}
            given |= own
            if "mask" in given:
                given["mask"] = _fitted_mask(number, given["mask"], sides, measured)
            spec, prior = item["restore"], prompted(item["restore"], self.model, self.session)
            restored = [side * self.sizes.scale(number) for side in measured]
            self._require_side(number, restored)
            try:
                known = learned_of(scene, number)
                assets = {**given, **known}
                operator = build_operator(spec["degradation"], *restored, assets)
                sigma = measurement_sigma(spec["degradation"])
                how = {"shared": True} if learn else {"kernel_rate": 0.0} if known else {"flows": flows}
                solver = build_solver({**spec["solver"], **how}, operator, sigma, prior)
            except OperatorError as error:
                raise SourceError(
                    f"enhance.{number}.restore does not fit pictures of {measured[1]}x{measured[0]}: {error}",
                    code="enhance_refused",
                ) from error
            within = prompted_within(spec, prior, solver.timesteps, self.model, self.session)
            cache = self._cache(spec, solver.timesteps)
            return Stage(solver, within, self.session, key=key, cache=cache)
        spec = at_strength(item["stylize"])
        timesteps, bank = timesteps_of(spec), self.styles.get(number)
        styling = Styles(self.model, self.session, self.image_prompt).styling(
            spec,
            timesteps,
            None if bank is None else bank.last(len(timesteps)),
            statistics_of(scene, number),
            controlled=controlled,
        )
        return Stage(
            styling.solver,
            styling.prior,
            self.session,
            styling.reading,
            key=key,
            cache=self._cache(spec, timesteps),
            control=self.control,
        )

    def _cache(self, spec: Spec, timesteps: tuple[int, ...]) -> DeepCache | None:
        """None where the item asks for none."""
        schedule = cache_schedule(spec, timesteps)
        if schedule is None:
            return None
        return DeepCache(self.model.unet, self.session, schedule)

    def _require_side(self, number: int, sides: Sequence[int]) -> None:
        at_most = self.model.largest_side
        if at_most is not None and max(sides) > at_most:
            raise SourceError(
                f"enhance.{number}.restore makes pictures of {sides[1]}x{sides[0]}, and the model knows no "
                f"positions beyond {at_most} pixels; use smaller frames or a model with a UNet",
                code="enhance_refused",
            )


def _fitted_mask(
    number: int, mask: np.ndarray[Any, Any], sides: Sequence[int], measured: Sequence[int]
) -> np.ndarray[Any, Any]:
    """``mask`` [..., h, w] for pictures that are padded from ``sides`` to ``measured``."""
    height, width = mask.shape[-2:]
    if (height, width) != tuple(sides):
        raise SourceError(
            f"enhance.{number}.restore.degradation.mask has {width}x{height} pixels, the frames have "
            f"{sides[1]}x{sides[0]}; give a mask of the frames' size",
            code="mask_size",
        )
    # Padding is measured: it repeats the edge and is no hole.
    edges = ((0, 0),) * (mask.ndim - 2) + ((0, measured[0] - height), (0, measured[1] - width))
    return np.pad(mask, edges, constant_values=255)


def timesteps_of(item: Spec) -> tuple[int, ...]:
    """The timesteps of a stylization."""
    share = schedule_share(item["strength"], item.get("depth", 1.0))
    return leading_timesteps(item["method"]["steps"], strength=share)


def style_timesteps(item: Spec) -> tuple[int, ...]:
    """The timesteps on which a style reference is inverted: all, since scenes may ask for other strengths."""
    return leading_timesteps(item["method"]["steps"])
