"""The job as the pipeline sees it: frozen values, already validated by `jobs.spec`.

Everything here is JSON-able through `dataclasses.asdict` and pickles to a few hundred bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Sharing = Literal["none", "chunk_first", "chunk_joint", "anchors", "knots_hard", "knots"]
Precision = Literal["auto", "fp32", "fp16", "bf16"]
Autoencoder = Literal["vae", "analytic"]
Container = Literal["auto", "mp4", "mkv", "mov", "webm"]


@dataclass(frozen=True)
class StorageSettings:
    """fsspec options. Credentials come from the environment only, never from here."""

    endpoint_url: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ConsistencySettings:
    """How frames share attention. Times are frame counts on the absolute grid of a scene.

    ``frames_per_batch`` is the fixed batch shape of the network; it changes bits.
    """

    sharing: Sharing = "knots"
    anchors: int = 4
    knot_every: int = 16
    knots_per_chunk: int = 8
    rho: float = 0.8
    frames_per_batch: int = 1


@dataclass(frozen=True)
class EncodeSettings:
    """Final codec. ``threads`` is part of the spec because it changes bits."""

    codec: str = "libx264"
    crf: int = 18
    preset: str = "medium"
    container: Container = "auto"
    threads: int = 1


@dataclass(frozen=True)
class ClusterSettings:
    """Where it runs; nothing here may change a result."""

    gpus_per_actor: float = 1.0
    actors: tuple[int, int] = (1, 2)
    address: str = "auto"
    max_attempts: int = 3


@dataclass(frozen=True)
class Limits:
    """Refusal limits, enforced from the header before decoding."""

    max_pixels: int = 8_847_360
    max_frames: int = 1_000_000
    max_seconds: float = 14_400.0


@dataclass(frozen=True)
class JobSettings:
    """One job. ``enhance`` is a tuple of plain dicts ``{"restore": {...}}`` / ``{"stylize": {...}}``.

    ``torch_threads`` is the thread count of one actor on CPU; it changes bits.
    """

    name: str
    seed: int
    source: tuple[str, ...]
    output: str
    storage: StorageSettings = StorageSettings()
    model: str = "embedded"
    precision: Precision = "auto"
    autoencoder: Autoencoder = "vae"
    enhance: tuple[dict[str, Any], ...] = ()
    consistency: ConsistencySettings = ConsistencySettings()
    encode: EncodeSettings = EncodeSettings()
    cluster: ClusterSettings = ClusterSettings()
    limits: Limits = Limits()
    torch_threads: int = 1
