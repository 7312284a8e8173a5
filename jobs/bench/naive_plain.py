"""The loop that one writes with diffusers alone: frame by frame, a batch of one, every part as the library
gives it. Same weights, same timesteps, same data step as a job's `dpir`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from operators.solvers.dpir import Dpir

Frames = NDArray[np.uint8]


class PlainLoop:
    """The embedded checkpoint through AutoencoderKL, UNet2DConditionModel and DDIMScheduler in float32."""

    def __init__(self) -> None:
        from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
        from safetensors.torch import load_file

        from operators.models import EMBEDDED

        # Without accelerate, which is none of our dependencies, the default would only warn.
        plainly: dict[str, Any] = {"low_cpu_mem_usage": False}
        self.vae: Any = AutoencoderKL.from_pretrained(EMBEDDED / "vae", **plainly).eval()
        self.unet: Any = UNet2DConditionModel.from_pretrained(EMBEDDED / "unet", **plainly).eval()
        self.scheduler: Any = DDIMScheduler.from_pretrained(EMBEDDED / "scheduler")
        self.null = load_file(EMBEDDED / "latent.safetensors")["null_condition"]

    def restore(self, frames: Frames, solver: Dpir) -> Frames:
        """uint8 [n, h, w, 3] to uint8 [n, H, W, 3], steps, weights and operator those of ``solver``."""
        import torch

        from operators.pictures import to_pictures, to_tensor

        with torch.no_grad():
            restored = [self._frame(to_tensor(frame[None], "cpu"), solver) for frame in frames]
        pictures: Frames = np.concatenate([to_pictures(x.clamp(-1, 1), np.dtype(np.uint8)) for x in restored])
        return pictures

    def _frame(self, y: Tensor, solver: Dpir) -> Tensor:
        from operators.solvers.back_projection import spread_prox
        from operators.solvers.dpir import starting_picture

        operator, scale = solver.operator, self.vae.config.scaling_factor
        self.scheduler.set_timesteps(len(solver.timesteps))
        x = starting_picture(operator, y)
        for i, (t, weight) in enumerate(zip(solver.timesteps, solver.weights, strict=True)):
            x = spread_prox(operator, x, y, weight) if i == 0 else operator.prox(x, y, weight)
            axes = solver.mirrored_axes(i)
            latent = self.vae.encode(x.flip(axes)).latent_dist.mode() * scale
            z = self.scheduler.alphas_cumprod[t].sqrt() * latent
            output = self.unet(z, t, encoder_hidden_states=self.null).sample
            z0 = self.scheduler.step(output, t, z).pred_original_sample
            x = self.vae.decode(z0 / scale).sample.flip(axes)
        return spread_prox(operator, x, y, solver.final_weight)
