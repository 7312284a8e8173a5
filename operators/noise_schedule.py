"""The noise schedule of a checkpoint, read from its ``scheduler_config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from operators.errors import ModelError
from operators.solvers.levels import flow_alphas
from operators.solvers.parametrisation import PARAMETRISATIONS

#: Schedulers that say more than a table: what kind of prior the checkpoint is.
_FLOW = "FlowMatchEulerDiscreteScheduler"
_CONSISTENCY = ("LCMScheduler", "TCDScheduler")


@dataclass(frozen=True)
class NoiseSchedule:
    """``kind`` diffusion | flow | consistency; ``prediction_type`` a key of `PARAMETRISATIONS`;
    ``alphas_cumprod`` [T] (flows: of equal signal-to-noise ratio, float64), and the one after the last."""

    kind: str
    prediction_type: str
    alphas_cumprod: Tensor
    final_alpha_cumprod: Tensor

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> NoiseSchedule:
        """Raises ModelError for a prediction type that is not supported."""
        if config.get("_class_name") == _FLOW:
            steps = int(config.get("num_train_timesteps", 1000))
            # A flow network is told 1000 s: entry t of the table is flow time t / steps.
            table = flow_alphas(torch.arange(steps, dtype=torch.float64) / steps)
            return cls("flow", "flow_prediction", table, torch.ones((), dtype=torch.float64))
        scheduler = DDIMScheduler.from_config(dict(config))
        predicts = scheduler.config.prediction_type
        if predicts not in PARAMETRISATIONS:
            raise ModelError(
                f"prediction type {predicts!r} is not supported; use one of {', '.join(PARAMETRISATIONS)}"
            )
        kind = "consistency" if config.get("_class_name") in _CONSISTENCY else "diffusion"
        table, final = scheduler.alphas_cumprod.float(), scheduler.final_alpha_cumprod.float()
        return cls(kind, predicts, table, final)
