"""From the ``solver`` mapping of a job to the methods that bring weights of their own."""

from __future__ import annotations

import functools
from pathlib import Path

from operators.degradations.base import ForwardOperator
from operators.errors import ModelError, OperatorError
from operators.solvers.base import LatentPrior, StepSolver
from operators.solvers.checkpoint_solver import CheckpointSolver
from operators.solvers.fields import Spec, weight, whole
from operators.solvers.image_bridge import BridgeRestorer, ImageBridge


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


@functools.lru_cache(maxsize=2)
def _bridge(folder: str, device: str, starts_from_pinv: bool) -> ImageBridge:
    """Read once, for a solver is built for every unit of work."""
    return ImageBridge.read(Path(folder), device, starts_from_pinv=starts_from_pinv)
