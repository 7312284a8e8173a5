"""What references hold, as arrays by name and as the safetensors bytes in which they travel."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load, save

from operators.pictures import to_pictures, to_tensor
from operators.replay import Trajectories
from operators.style.bank import StyleBank
from operators.style.transport import LatentStatistics

Arrays = dict[str, np.ndarray[Any, Any]]


def packed(arrays: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """Arrays as safetensors bytes, the same for the same arrays."""
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def split_anchors(scene: Arrays) -> dict[int, Arrays]:
    """Each anchor as a reference of its own, as knots are stored."""
    per_anchor = [
        name for name in scene if name in ("pictures", "source") or name.endswith(("/z", "/source", "/shown"))
    ]
    return {
        int(ordinal): {name: scene[name][at : at + 1] for name in per_anchor}
        for at, ordinal in enumerate(scene["ordinals"])
    }


def trajectories_of(
    number: int, scene: Arrays | None, knots: Mapping[int, Arrays], device: str
) -> Trajectories:
    """What the references of stage ``number`` left, the anchors of ``scene`` and single ``knots``, on a
    device."""

    def tensor(array: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    z, shown = f"{number}/z", f"{number}/shown"
    return Trajectories(
        None if scene is None else tensor(scene[z]),
        {ordinal: tensor(blob[z][0]) for ordinal, blob in knots.items()},
        None if scene is None or shown not in scene else to_tensor(scene[shown], device),
        {ordinal: to_tensor(blob[shown], device)[0] for ordinal, blob in knots.items() if shown in blob},
    )


def shown_arrays(number: int, entering: torch.Tensor) -> Arrays:
    """What frames [R, 3, H, W] show that enter stage ``number``, for those that are steered by it."""
    return {f"{number}/shown": to_pictures(entering, np.dtype(np.uint8))}


def statistics_arrays(number: int, statistics: LatentStatistics) -> Arrays:
    """What `statistics_of` reads."""
    return {
        f"{number}/mean": statistics.mean.numpy(),
        f"{number}/covariance": statistics.covariance.numpy(),
    }


def statistics_of(scene: Arrays | None, number: int) -> LatentStatistics | None:
    """Latent statistics of the anchors of ``scene`` before stage ``number``; None where there are none."""
    if scene is None or f"{number}/mean" not in scene:
        return None
    return LatentStatistics(
        torch.from_numpy(scene[f"{number}/mean"]), torch.from_numpy(scene[f"{number}/covariance"])
    )


def learned_of(scene: Arrays | None, number: int) -> Arrays:
    """What the scene's anchors taught about the operator of stage ``number``, by asset."""
    prefix = f"{number}/learned/"
    return {name.removeprefix(prefix): a for name, a in (scene or {}).items() if name.startswith(prefix)}


def learned_arrays(number: int, learned: Mapping[str, torch.Tensor]) -> Arrays:
    """What `learned_of` reads."""
    return {f"{number}/learned/{asset}": value.cpu().numpy() for asset, value in learned.items()}


def style_to_bytes(bank: StyleBank) -> bytes:
    """A style bank as it is stored."""
    return packed({name: tensor.numpy() for name, tensor in bank.to_tensors().items()})


def style_from_bytes(blob: bytes, device: str) -> StyleBank:
    """Inverse of `style_to_bytes`, on a device; named by what is stored."""
    tensors = {name: torch.from_numpy(array) for name, array in load(blob).items()}
    return StyleBank.from_tensors(hashlib.sha256(blob).hexdigest(), tensors, device)
