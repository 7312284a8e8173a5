"""From the ``solver`` mapping of a job to the methods that bring weights of their own."""

from __future__ import annotations

import functools
from pathlib import Path

from operators.degradations.base import ForwardOperator
from operators.degradations.noise_models import MINIMAL_NOISE
from operators.errors import ModelError, OperatorError
from operators.solvers.base import LatentPrior, StepSolver
from operators.solvers.checkpoint_solver import CheckpointSolver
from operators.solvers.checkpoints import VideoConsistencyPrior
from operators.solvers.fields import Spec, positive, weight, whole
from operators.solvers.image_bridge import BridgeRestorer, ImageBridge
from operators.solvers.levels import level
from operators.solvers.lvtino import IMAGE_TIMESTEPS, VIDEO_TIMESTEPS, Lvtino
from operators.solvers.wan_video import WanVideoPrior


def cddb(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """``checkpoint`` a folder that `ImageBridge.read` reads, ``steps`` evaluations of it, ``step_size`` of
    the data. The model of the job is not asked."""
    folder = spec.get("checkpoint")
    if not folder:
        raise OperatorError("solver.checkpoint: cddb needs the folder of a bridge; give checkpoint: DIR")
    try:
        # The bridge begins at what has the picture's size, as it was trained (I2SB).
        bridge = _bridge(str(folder), str(prior.alphas_cumprod.device), operator.scale > 1)
    except ModelError as error:
        raise OperatorError(f"solver.checkpoint: {error}") from error
    sides = (operator.height, operator.width)
    if any(side % bridge.multiple for side in sides):
        raise OperatorError(
            f"solver.checkpoint: its network takes sides that are multiples of {bridge.multiple}, the "
            f"picture has {sides[1]}x{sides[0]}; use another checkpoint or solver"
        )
    restorer = BridgeRestorer(
        bridge,
        lambda height, width: operator,
        operator.scale,
        bridge.multiple,
        whole(spec, "steps", 100),
        weight(spec, "step_size", 1.0),
    )
    return CheckpointSolver(operator, restorer)


def lvtino(spec: Spec, operator: ForwardOperator, sigma_y: float, prior: LatentPrior) -> StepSolver:
    """``delta`` of the prox, ``checkpoint`` the folder of a video model that `WanVideoPrior.read` reads;
    without one the job's model goes its steps alone. The prox weighs delta (1 - ab) / sigma_y^2 as in LATINO
    (our reading: the paper tunes weights per problem)."""
    delta, noise = positive(spec, "delta", 1.0), max(sigma_y, MINIMAL_NOISE)
    folder = spec.get("checkpoint")
    video = _video(str(folder), str(prior.alphas_cumprod.device)) if folder else None
    if video is not None and any(side % video.multiple for side in (operator.height, operator.width)):
        raise OperatorError(
            f"solver.checkpoint: its video model takes sides that are multiples of {video.multiple}, the "
            f"picture has {operator.width}x{operator.height}; leave checkpoint out"
        )

    def weights(of: LatentPrior | VideoConsistencyPrior, timesteps: tuple[int, ...]) -> tuple[float, ...]:
        return tuple(delta * (1.0 - float(level(of, t).ab)) / noise**2 for t in timesteps)

    return Lvtino(
        operator,
        IMAGE_TIMESTEPS,
        weights(prior, IMAGE_TIMESTEPS),
        video,
        VIDEO_TIMESTEPS,
        weights(prior if video is None else video, VIDEO_TIMESTEPS),
    )


@functools.lru_cache(maxsize=1)
def _video(folder: str, device: str) -> WanVideoPrior:
    """Read once, for a solver is built for every unit of work."""
    try:
        return WanVideoPrior.read(Path(folder), device)
    except ModelError as error:
        raise OperatorError(f"solver.checkpoint: {error}") from error


@functools.lru_cache(maxsize=2)
def _bridge(folder: str, device: str, starts_from_pinv: bool) -> ImageBridge:
    """Read once, for a solver is built for every unit of work."""
    return ImageBridge.read(Path(folder), device, starts_from_pinv=starts_from_pinv)
