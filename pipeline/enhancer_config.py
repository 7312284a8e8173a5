"""What an Enhancer is told, apart from its code: importable without torch, so that the driver can make it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.settings import Autoencoder, ConsistencySettings, Precision


@dataclass(frozen=True)
class EnhancerConfig:
    """All an Enhancer needs; pickles small. ``masks`` holds uint8 pictures by index in ``enhance``."""

    model: str
    precision: Precision
    device: str
    enhance: tuple[dict[str, Any], ...]
    consistency: ConsistencySettings
    seed: int
    torch_threads: int
    autoencoder: Autoencoder = "vae"
    masks: Mapping[int, np.ndarray[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class FrameTask:
    """Which frames of which video: ``ordinals`` are absolute, ``scene`` numbers the scene."""

    source_digest: str
    scene: int
    ordinals: tuple[int, ...]
