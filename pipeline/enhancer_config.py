"""What an Enhancer is told, apart from its code: importable without torch, so that the driver can make it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.settings import Autoencoder, ConsistencySettings, Precision


@dataclass(frozen=True)
class EnhancerConfig:
    """All an Enhancer needs; pickles small. ``masks`` holds uint8 pictures by index in ``enhance``, 0 where
    the file is white."""

    model: str
    precision: Precision
    device: str
    enhance: tuple[dict[str, Any], ...]
    consistency: ConsistencySettings
    seed: int
    torch_threads: int
    autoencoder: Autoencoder = "vae"
    adapters: tuple[dict[str, Any], ...] = ()
    masks: Mapping[int, np.ndarray[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class FrameTask:
    """Which frames of which video: ``ordinals`` are absolute, ``scene`` numbers the scene. ``masks``: by
    index in ``enhance`` the masks of frames that have one each, uint8 [h, w] by ordinal, 0 where the file
    is white. ``around``: the frames themselves and ``halo`` more on both sides, by ordinal, where frames are
    restored together; ``scene_range`` are first and last (exclusive) of the scene."""

    source_digest: str
    scene: int
    ordinals: tuple[int, ...]
    masks: Mapping[int, Mapping[int, np.ndarray[Any, Any]]] = field(default_factory=dict)
    around: Mapping[int, np.ndarray[Any, Any]] = field(default_factory=dict)
    halo: int = 0
    scene_range: tuple[int, int] = (0, 0)
