"""What a job with a given solver makes of measured pictures, and what it costs: counted and timed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from operators.degradations.base import ForwardOperator

Pictures = NDArray[np.float32]

#: Solvers of the embedded model, a diffusion; the rest of the suite needs few-step or flow checkpoints.
SOLVERS = (
    "dpir",
    "diffpir",
    "ddnm",
    "treg",
    "dreamsampler",
    "video_latent",
    "svi",
    "reddiff",
    "dps_nojac",
    "ldps",
    "psld",
    "resample",
    "stsl",
)
NEED_OTHER_MODELS = ("latino", "lvtino", "flowchef", "flowdps", "cddb")
_PARTS = ("forward", "backward", "encode", "decode")


@dataclass(frozen=True)
class Restored:
    """``pictures`` [n, h, w, 3] on [0, 1], unclipped; per picture ``seconds`` of processor time and the
    ``evaluations`` of each part, those of gradients through the autoencoder among encode and decode."""

    pictures: Pictures
    seconds: float
    evaluations: dict[str, float]


class Samplers:
    """The embedded model in float32 on the CPU, driven as a job does without sharing among frames."""

    def __init__(self) -> None:
        from operators.models import BoundPrior, LatentModel

        self.model = LatentModel.from_pretrained("embedded", device="cpu", precision="fp32")
        self._prior = BoundPrior(self.model)

    def operator(self, degradation: Mapping[str, Any], measured: Pictures) -> ForwardOperator:
        """The forward operator for pictures of the size that ``measured`` ones are restored to."""
        from operators.degradations.registry import build_operator

        scale = int(degradation.get("scale", 1))
        return build_operator(degradation, measured.shape[1] * scale, measured.shape[2] * scale, {})

    def restore(
        self,
        measured: Pictures,
        degradation: Mapping[str, Any],
        solver: Mapping[str, Any],
        *,
        rho: float = 0.0,
        seed: int = 0,
    ) -> Restored:
        """All pictures in one batch; ``rho`` is the share of noise that they have in common."""
        import torch

        from operators.degradations.registry import measurement_sigma
        from operators.noise import FrameDraws, frame_noise
        from operators.solvers.base import restore
        from operators.solvers.evaluations import CountingPrior
        from operators.solvers.registry import build_solver

        y = signed(measured)
        operator = self.operator(degradation, measured)
        counting = CountingPrior(self._prior)
        frames = tuple(range(len(y)))
        facts: dict[str, Any] = {"seed": seed, "source_digest": "bench restore", "scene": 0, "rho": rho}
        factor = self.model.vae_factor
        shape = (self.model.latent_channels, operator.height // factor, operator.width // factor)
        noise = torch.stack([frame_noise(shape, frame=f, purpose="start", **facts) for f in frames])
        draws = FrameDraws(frames=frames, prefix="bench", **facts)
        begun = time.process_time()
        method = build_solver(solver, operator, measurement_sigma(degradation), self._prior)
        pictures = unsigned(restore(method, y, noise, counting, draws))
        seconds = (time.process_time() - begun) / len(y)
        spent = {name: count / len(y) for name, count in vars(counting.evaluations).items()}
        merged = {part: spent[part] + spent.get(f"{part}_back", 0.0) for part in _PARTS}
        return Restored(pictures, seconds, merged)

    def default_of(self, name: str, field: str, degradation: Mapping[str, Any], measured: Pictures) -> float:
        """The value of ``field`` that solver ``name`` takes for pictures of this size when none is given."""
        from operators.degradations.registry import measurement_sigma
        from operators.solvers.registry import build_solver

        operator = self.operator(degradation, measured)
        spec = as_in_jobs(degradation, {"name": name, "last_fit": False, "strength": 1.0})
        solver = build_solver(spec, operator, measurement_sigma(degradation), self._prior)
        return float(getattr(solver, field))

    def perceptual_distances(self, pictures: Pictures, truth: Pictures) -> list[float]:
        """`operators.metrics.perceptual` in the embedded encoder, one value per picture."""
        from operators.metrics.encoder_features import encoder_features
        from operators.metrics.perceptual import perceptual_distance

        a, b = (encoder_features(self.model, signed(np.clip(x, 0.0, 1.0))) for x in (pictures, truth))
        distances: list[float] = perceptual_distance(a, b).tolist()
        return distances


def as_in_jobs(degradation: Mapping[str, Any], solver: Mapping[str, Any]) -> dict[str, Any]:
    """``solver`` with every default that a job file fills in."""
    from jobs.enhance_spec import Restore

    item = Restore.model_validate({"degradation": dict(degradation), "solver": dict(solver)})
    filled: dict[str, Any] = item.model_dump(mode="json", exclude_none=True)["solver"]
    return filled


def signed(pictures: Pictures) -> Any:
    """[n, h, w, 3] on [0, 1] as a tensor [n, 3, h, w] on [-1, 1]."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2) * 2.0 - 1.0


def unsigned(x: Any) -> Pictures:
    """The reverse of `signed`."""
    pictures: Pictures = ((x + 1.0) / 2.0).permute(0, 2, 3, 1).contiguous().numpy()
    return pictures
