"""How a video was degraded, estimated from some of its frames: arrays in, plain facts out. Without torch."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from operators.errors import OperatorError
from operators.estimation.degradation import estimate_degradation, suggested_degradations, undecided
from pipeline.errors import SourceError


def estimated_facts(frames: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Finite JSON: the estimates (``noise``, ``blur``, ``bars``, ``overlays``), ``degradations`` as in job
    files, in the order to undo them, and what could not be told (``undecided``, sentences).

    ``frames``: uint8 or uint16 [N, H, W, 3]. Raises SourceError, code ``enhance_refused``, for frames that
    are too small to tell anything.
    """
    try:
        estimate = estimate_degradation(frames)
    except OperatorError as error:
        raise SourceError(
            f"degradation auto cannot be estimated from frames of {frames.shape[2]}x{frames.shape[1]} pixels "
            f"({error}); say in the job how they are degraded",
            code="enhance_refused",
        ) from error
    return {
        **dataclasses.asdict(estimate),
        "degradations": list(suggested_degradations(estimate)),
        "undecided": list(undecided(estimate)),
    }
