"""An image-to-image Schroedinger bridge (Liu et al. 2023, "I2SB", arXiv 2302.05872) with a diffusers UNet:
the worked example of a checkpoint operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.errors import ModelError
from operators.solvers.base import NoiseSource, restore
from operators.solvers.cddb import Cddb
from operators.solvers.checkpoint_sides import bridge_multiple
from operators.solvers.checkpoints import CheckpointManifest
from operators.solvers.parametrisation import from_residual

STEPS = 1000


def bridge_deviations(steps: int = STEPS, low: float = 1e-4, beta_max: float = 0.3) -> Tensor:
    """std_fwd [steps] of the released symmetric schedule: betas rise to beta_max / steps, evenly in their
    root, and fall again from the middle on; the deviation is the root of their sum."""
    rise = torch.linspace(low**0.5, (beta_max / steps) ** 0.5, steps, dtype=torch.float64).square()
    half = rise[: steps // 2]
    return torch.cat([half, half.flip(0)]).cumsum(0).sqrt().float()


class ImageBridge:
    """A `BridgePrior` of one picture size: net(x_t, t) = (x_t - x_0) / std_fwd[t].

    ``starts_from_pinv``: the degraded end is A^+ y (super-resolution, JPEG), else y itself (blur).
    """

    def __init__(self, network: UNet2DModel, *, starts_from_pinv: bool = True) -> None:
        self._network = network.eval().requires_grad_(False)
        self._from_pinv = starts_from_pinv
        self.std_fwd = bridge_deviations().to(network.device)

    @classmethod
    def read(cls, folder: Path, device: str = "cpu", *, starts_from_pinv: bool = True) -> ImageBridge:
        """From ``checkpoint.json``, ``config.json`` and one safetensors file. Raises ModelError."""
        manifest = CheckpointManifest.read(folder)
        if manifest.kind != "bridge":
            raise ModelError(f"{folder}: a {manifest.kind} checkpoint is no bridge")
        try:
            network = UNet2DModel.from_config(UNet2DModel.load_config(folder))
            network.load_state_dict(load_file(manifest.weights[0], device))
        except (OSError, SafetensorError, RuntimeError, ValueError) as error:
            raise ModelError(f"{manifest.weights[0]} cannot be loaded: {error}") from error
        return cls(network.to(device), starts_from_pinv=starts_from_pinv)

    @property
    def multiple(self) -> int:
        """Sides of pictures are multiples of it."""
        return bridge_multiple(self._network.config.block_out_channels)

    def start(self, y: Tensor, operator: ForwardOperator) -> Tensor:
        return operator.pinv(y) if self._from_pinv else y

    def predict_x0(self, x: Tensor, index: int) -> Tensor:
        return from_residual(x, self._network(x, index).sample, self.std_fwd[index])


@dataclass(frozen=True)
class BridgeRestorer:
    """A `CheckpointOperator`: CDDB on ``bridge`` for one kind of degradation, ``steps`` evaluations.

    ``operator_for`` (height, width of the result) builds A; ``scale`` is A's factor, ``multiple`` the net's.
    """

    bridge: ImageBridge
    operator_for: Callable[[int, int], ForwardOperator]
    scale: int
    multiple: int
    steps: int = 100
    step_size: float = 1.0

    def restore(self, y: Tensor, draws: NoiseSource) -> Tensor:
        """Measurements [B, 3, h, w] to pictures [B, 3, scale h, scale w]; rows are independent."""
        sides = (y.shape[-2] * self.scale, y.shape[-1] * self.scale)
        if any(side % self.multiple for side in sides):
            raise ModelError(
                f"bridge: {sides[1]}x{sides[0]} pixels are no multiple of {self.multiple}; pad them"
            )
        visited = torch.linspace(len(self.bridge.std_fwd) - 1, 0, self.steps + 1).round().int().tolist()
        solver = Cddb(self.operator_for(*sides), tuple(visited), self.step_size)
        return restore(solver, y, y, self.bridge, draws)
