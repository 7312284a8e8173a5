"""ControlNet (Zhang, Rao and Agrawala 2023, arXiv 2302.05543): frames are steered by what they show.

Every call of the UNet about frames is made beside one of each ControlNet, whose residuals are added to it;
the pictures that it is shown belong to the very rows of the call. So inversion and sampling see one network,
references are replayed with pictures of their own, and no row depends on its batch. Calls that are about no
frame, those of a style reference, are left alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from operators.adapters.conditions import CONDITIONS
from operators.checkpoint_files import load_part
from operators.errors import OperatorError
from operators.models import LatentModel
from operators.pictures import to_pictures, to_tensor


@dataclass(frozen=True)
class Control:
    """One ControlNet, the name of its pictures in `CONDITIONS`, and the factor of its residuals."""

    network: ControlNetModel
    condition: str
    weight: float


class SourceControl:
    """What steers one UNet; made by `source_control`."""

    def __init__(self, controls: Sequence[Control]) -> None:
        self.controls = tuple(controls)
        self._shown: tuple[Tensor, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.controls)

    @contextlib.contextmanager
    def by(self, frames: Tensor | None) -> Iterator[None]:
        """Calls inside are about ``frames`` [B, 3, H, W] in [-1, 1], one for each row, which are quantised to
        8 bits first; None for calls about no frame."""
        before = self._shown
        self._shown = () if frames is None or not self.controls else self._conditions(frames)
        try:
            yield
        finally:
            self._shown = before

    def residuals(self, sample: Tensor, timestep: Any, told: Mapping[str, Any]) -> dict[str, Any]:
        """What all ControlNets together add to a call of the UNet on ``sample`` [B, C, h, w] that is ``told``
        the keyword arguments of conditioning; {} where it is about no frame. Raises OperatorError when there
        is not one picture for each row."""
        down: list[Tensor] = []
        mid: Tensor | None = None
        for control, shown in zip(self.controls, self._shown, strict=False):
            if len(shown) != len(sample):
                raise OperatorError(
                    f"controlnet: a call of {len(sample)} rows about {len(shown)} frames; give one each"
                )
            ours, middle = control.network(
                sample,
                timestep,
                encoder_hidden_states=told["encoder_hidden_states"],
                controlnet_cond=shown.to(sample.dtype),
                conditioning_scale=control.weight,
                added_cond_kwargs=told.get("added_cond_kwargs"),
                return_dict=False,
            )
            down = [a + b for a, b in zip(down, ours, strict=True)] if down else list(ours)
            mid = middle if mid is None else mid + middle
        if mid is None:
            return {}
        return {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": mid}

    def _conditions(self, frames: Tensor) -> tuple[Tensor, ...]:
        pictures = to_pictures(frames, np.dtype(np.uint8))
        made = [CONDITIONS[control.condition](pictures) for control in self.controls]
        return tuple((to_tensor(picture, frames.device) + 1.0) / 2.0 for picture in made)


@contextlib.contextmanager
def source_control(model: LatentModel, adapters: Sequence[Mapping[str, Any]]) -> Iterator[SourceControl]:
    """Let the UNet of ``model`` be steered inside the block by those of ``adapters`` that are
    ``{"controlnet": folder, "condition": name, "weight": w}``. Raises ModelError naming the folder."""
    controls = [
        Control(_load(model, Path(adapter["controlnet"])), adapter["condition"], adapter["weight"])
        for adapter in adapters
        if "controlnet" in adapter
    ]
    control = SourceControl(controls)
    with contextlib.ExitStack() as undo:
        if controls:
            hook = model.unet.register_forward_pre_hook(_steered(control), with_kwargs=True)
            undo.callback(hook.remove)
        yield control


def _load(model: LatentModel, folder: Path) -> ControlNetModel:
    network = load_part(ControlNetModel, folder.parent, folder.name, model.dtype)
    network = network.to(model.device, memory_format=torch.channels_last)
    return network.eval().requires_grad_(False)


def _steered(control: SourceControl) -> Any:
    def before_the_call(
        _unet: UNet2DConditionModel, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, {**kwargs, **control.residuals(args[0], args[1], kwargs)}

    return before_the_call
