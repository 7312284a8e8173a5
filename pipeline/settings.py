"""The job as the pipeline sees it: frozen values, already validated by `jobs.spec`.

Everything here is JSON-able through `dataclasses.asdict` and pickles to a few hundred bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Sharing = Literal[
    "none", "first_frame", "sparse_causal", "chunk_first", "chunk_joint",
    "anchors", "knots_hard", "knots", "propagate", "correspondence",
]  # fmt: skip
Knots = Literal["adaptive", "even"]
Precision = Literal["auto", "fp32", "fp16", "bf16"]
Autoencoder = Literal["vae", "analytic"]
Container = Literal["auto", "mp4", "mkv", "mov", "webm"]
Timestamps = Literal["reject", "rebuild"]
SizeChange = Literal["reject", "scale"]
Interlaced = Literal["keep", "deinterlace", "reject"]
Rotation = Literal["keep", "bake"]
Alpha = Literal["keep", "drop", "reject"]
Hdr = Literal["code_values", "linear", "reject"]
Credentials = Literal["auto", "embed", "sidecar", "off"]


@dataclass(frozen=True)
class StorageSettings:
    """fsspec options. Credentials come from the environment only, never from here."""

    endpoint_url: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ConsistencySettings:
    """How frames share attention. Times are frame counts on the absolute grid of a scene.

    ``knots``: ``adaptive`` ones lie closer than ``knot_every`` where the picture moves or fades. That is not
    the default: in two fast scenes it cost a quarter more time and changed no measure of consistency.
    ``warp_noise``: the noise of frames between knots moves with the source's picture (policies with knots).
    ``frames_per_batch`` is the fixed batch shape of the network; it changes bits. ``merge`` is the share of
    a frame's tokens that are merged into those of its knots, ``fusion`` the strength with which its estimates
    are pulled towards those of its knots along the motion; 0 turns either off.
    """

    sharing: Sharing = "knots"
    anchors: int = 4
    knots: Knots = "even"
    knot_every: int = 16
    knots_per_chunk: int = 8
    rho: float = 0.8
    warp_noise: bool = False
    frames_per_batch: int = 1
    merge: float = 0.0
    fusion: float = 0.0


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
    drain_seconds: float = 20.0


@dataclass(frozen=True)
class Limits:
    """Refusal limits, enforced from the header before decoding."""

    max_pixels: int = 8_847_360
    max_frames: int = 1_000_000
    max_seconds: float = 14_400.0
    max_streams: int = 100


@dataclass(frozen=True)
class VideoPolicy:
    """What is done with sources that are not plain: every choice is recorded as a warning of the video.

    ``timestamps``: frames without a time, at the same time or going back are refused, or get times between
    their neighbours'. ``assume_fps``: frames per second ("25", "30000/1001") of streams that carry no times
    at all; None refuses them. ``partial``: a file that was cut off is processed as far as it goes.
    ``size_change``: pictures that change size midway are refused, or scaled to the first one's.
    ``interlaced``: fields stay woven, or become whole pictures (bwdif, one per frame). ``rotation``: the
    display matrix stays beside pictures stored as they were, or they are turned and it goes. ``alpha``:
    transparency goes along or is left out. ``hdr``: PQ and HLG pictures reach the model as code values, or
    as light under the curve of a common display.
    """

    timestamps: Timestamps = "reject"
    assume_fps: str | None = None
    partial: bool = False
    size_change: SizeChange = "reject"
    interlaced: Interlaced = "keep"
    rotation: Rotation = "keep"
    alpha: Alpha = "drop"
    hdr: Hdr = "code_values"


@dataclass(frozen=True)
class ProvenanceSettings:
    """How outputs say what was done to them; see `pipeline.disclosure`.

    ``label``: the IPTC digital source type in the file. ``c2pa``: signed content credentials; ``auto`` signs
    where a signer is given, ``embed`` and ``sidecar`` need one. ``certificate`` and ``key`` are local PEM
    files, read on every node that publishes; what they hold goes nowhere. ``signer`` names whom the
    certificate is issued to (`pipeline.signer.with_signer`), and is all that keys know of it.
    """

    label: bool = True
    c2pa: Credentials = "auto"
    certificate: str | None = None
    key: str | None = None
    signer: str = ""

    @property
    def signs(self) -> bool:
        """Whether outputs are signed."""
        return self.c2pa != "off" and self.certificate is not None and self.key is not None


@dataclass(frozen=True)
class SceneOverride:
    """The whole ``enhance`` list of the scenes numbered ``scenes`` (None: all) of videos whose path ends as
    the pattern ``video`` says."""

    video: str
    scenes: tuple[int, ...] | None
    enhance: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class JobSettings:
    """One job. ``enhance`` is a tuple of plain dicts ``{"restore": {...}}`` / ``{"stylize": {...}}``,
    ``adapters`` one of those of `jobs.adapter_spec`.

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
    adapters: tuple[dict[str, Any], ...] = ()
    enhance: tuple[dict[str, Any], ...] = ()
    consistency: ConsistencySettings = ConsistencySettings()
    encode: EncodeSettings = EncodeSettings()
    cluster: ClusterSettings = ClusterSettings()
    video: VideoPolicy = VideoPolicy()
    limits: Limits = Limits()
    torch_threads: int = 1
    scenes: tuple[SceneOverride, ...] = ()
    provenance: ProvenanceSettings = ProvenanceSettings()
