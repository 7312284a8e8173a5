"""What methods that need weights of their own must offer to be plugged in.

The product holds no such weights: a checkpoint is a directory with a manifest (`CheckpointManifest`) and an
adapter that meets one of these protocols. Pictures are [B, 3, H, W] in [-1, 1]; rows are independent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.errors import ModelError
from operators.solvers.base import NoiseSource


class CheckpointOperator(Protocol):
    """A restorer with its own weights: a bridge with its sampler, a one-step network, a video model.

    ``scale``: output pixels per input pixel; ``multiple``: sides of the output are multiples of it. Its
    result may also replace A^+ y as the start of the training-free solvers.
    """

    scale: int
    multiple: int

    def restore(self, y: Tensor, draws: NoiseSource) -> Tensor:
        """Measurements to pictures [B, 3, scale h, scale w], nominally in [-1, 1]."""


class BridgePrior(Protocol):
    """A diffusion bridge from the degraded to the clean picture (I2SB, CDDB).

    ``std_fwd`` [N]: noise of x_t seen from x_0, rising with the index.
    """

    std_fwd: Tensor

    def start(self, y: Tensor, operator: ForwardOperator) -> Tensor:
        """x_1, the bridge's degraded end, in the size of the result."""

    def predict_x0(self, x: Tensor, index: int) -> Tensor:
        """E[x_0 | x_t], differentiable in ``x``."""


class TrajectoryPrior(Protocol):
    """A consistency trajectory model (GCTM, Kim et al. 2024) on x_t = (1 - t) x_0 + t x_1."""

    def jump(self, x: Tensor, t: float, s: float) -> Tensor:
        """The point at s <= t of the trajectory through ``x`` at t; s = 0 is a sample of x_0."""

    def denoise(self, x: Tensor, t: float) -> Tensor:
        """E[x_0 | x_t]."""


class VideoConsistencyPrior(Protocol):
    """A distilled video model (LVTINO's VCM): a clip is one sample. ``frames_multiple``: a clip has
    k frames_multiple + 1 frames (temporal autoencoders). It may say its ``kind`` as a `LatentPrior` does."""

    alphas_cumprod: Tensor
    frames_multiple: int

    def encode(self, clip: Tensor) -> Tensor:
        """Frames [T, 3, H, W] to a latent of any shape."""

    def decode(self, z: Tensor) -> Tensor:
        """Back to [T, 3, H, W]."""

    def predict_z0(self, z: Tensor, t: int) -> Tensor:
        """A sample of the clean latent."""


KINDS = ("bridge", "consistency", "video_consistency", "trajectory", "kernel", "one_step")


@dataclass(frozen=True)
class CheckpointManifest:
    """``checkpoint.json`` of a directory: which adapter reads it, and on what terms it may be used.

    ``kind`` one of `KINDS`; ``weights`` safetensors files relative to the directory; ``licence`` as its owner
    names it.
    """

    kind: str
    weights: tuple[Path, ...]
    licence: str

    @classmethod
    def read(cls, folder: Path) -> CheckpointManifest:
        """Raises ModelError naming the file or field; weights outside ``folder`` and pickles are refused."""
        path = folder / "checkpoint.json"
        try:
            facts = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ModelError(f"{path} cannot be read: {error}") from error
        missing = [field for field in ("kind", "weights", "licence") if not facts.get(field)]
        if missing:
            raise ModelError(f"{path}: {missing[0]} is missing")
        if facts["kind"] not in KINDS:
            raise ModelError(f"{path}: kind {facts['kind']!r} is unknown; use one of {', '.join(KINDS)}")
        weights = tuple((folder / name).resolve() for name in facts["weights"])
        for weight in weights:
            _check_weights(path, folder, weight)
        return cls(facts["kind"], weights, facts["licence"])


def _check_weights(path: Path, folder: Path, weight: Path) -> None:
    if not weight.is_relative_to(folder.resolve()):
        raise ModelError(f"{path}: {weight.name} lies outside the checkpoint's directory")
    if weight.suffix != ".safetensors":
        raise ModelError(f"{path}: {weight.name} is no safetensors file; convert the checkpoint")
    if not weight.is_file():
        raise ModelError(f"{path}: {weight.name} is missing")
