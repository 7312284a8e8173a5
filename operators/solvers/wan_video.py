"""A distilled Wan 2.1 video model (arXiv 2503.20314; distilled as CausVid, Yin et al. 2025, arXiv 2412.07772)
in the diffusers layout: the video prior of LVTINO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from operators.errors import ModelError
from operators.solvers.checkpoint_sides import wan_multiple
from operators.solvers.checkpoints import CheckpointManifest
from operators.solvers.levels import flow_alphas

#: A flow network is told 1000 s.
STEPS = 1000
CONDITION = "condition.safetensors"


class WanVideoPrior:
    """A `VideoConsistencyPrior`: z0 = z_s - s v of a few-step flow, z_s = (1 - s) z0 + s n, s = t / 1000.

    A clip [T, 3, H, W] with T = k ``frames_multiple`` + 1 is one latent [C, k + 1, H / 8, W / 8]; sides are
    multiples of ``multiple``. ``condition`` [1, L, D]: what the text encoder makes of no text, in place of
    its 5.7 billion weights.
    """

    kind = "flow"

    def __init__(self, vae: AutoencoderKLWan, network: WanTransformer3DModel, condition: Tensor) -> None:
        self._vae, self._network = vae.eval().requires_grad_(False), network.eval().requires_grad_(False)
        self._dtype = network.patch_embedding.weight.dtype
        self._condition = condition.to(network.device, self._dtype)
        shape = (1, -1, 1, 1, 1)
        self._mean = torch.tensor(vae.config.latents_mean).view(shape).to(vae.device)
        self._std = torch.tensor(vae.config.latents_std).view(shape).to(vae.device)
        self.alphas_cumprod = flow_alphas(torch.arange(STEPS, dtype=torch.float64) / STEPS)
        self.frames_multiple = 2 ** sum(vae.config.temperal_downsample)
        self.multiple = wan_multiple(vae.config.temperal_downsample, network.config.patch_size)

    @classmethod
    def read(cls, folder: Path, device: str = "cpu") -> WanVideoPrior:
        """From ``checkpoint.json`` (kind video_consistency), ``vae/``, ``transformer/`` and
        ``condition.safetensors`` (tensor ``null_condition``). The autoencoder runs in float32, the network in
        bfloat16 on GPUs. Raises ModelError."""
        manifest = CheckpointManifest.read(folder)
        if manifest.kind != "video_consistency":
            raise ModelError(f"{folder}: a {manifest.kind} checkpoint is no video model")
        narrow = torch.bfloat16 if device.startswith("cuda") else torch.float32
        vae = _load(AutoencoderKLWan, folder, "vae")
        network = _narrowed(_load(WanTransformer3DModel, folder, "transformer"), narrow)
        try:
            condition = load_file(folder / CONDITION)["null_condition"]
        except (OSError, SafetensorError, KeyError) as error:
            raise ModelError(f"{folder / CONDITION} cannot be read: {error!r}") from error
        return cls(vae.to(device), network.to(device), condition)

    def encode(self, clip: Tensor) -> Tensor:
        """Frames [T, 3, H, W] in [-1, 1] to a float32 latent [C, t, h, w]: the posterior mean."""
        raw = self._vae.encode(clip.float().transpose(0, 1)[None]).latent_dist.mode()
        return ((raw - self._mean) / self._std)[0]

    def decode(self, z: Tensor) -> Tensor:
        """A latent [C, t, h, w] to frames [T, 3, H, W], unclipped."""
        frames: Tensor = self._vae.decode(z[None] * self._std + self._mean).sample
        return frames[0].transpose(0, 1)

    def predict_z0(self, z: Tensor, t: int) -> Tensor:
        """z - s v, float32."""
        told = torch.tensor([t], device=z.device)
        v = self._network(z[None].to(self._dtype), told, self._condition).sample
        return z - t / STEPS * v[0].float()


def _load(kind: Any, folder: Path, part: str) -> Any:
    # Not from_pretrained, which asks for accelerate where some layers are to stay in float32.
    try:
        model = kind.from_config(kind.load_config(folder / part))
        weights: dict[str, Tensor] = {}
        for shard in sorted((folder / part).glob("*.safetensors")):
            weights |= load_file(shard)
        model.load_state_dict(weights)
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError) as error:
        raise ModelError(f"{folder / part} cannot be loaded: {error}") from error
    return model


def _narrowed(network: WanTransformer3DModel, dtype: torch.dtype) -> WanTransformer3DModel:
    """``network`` in ``dtype``, but for the layers that its class keeps in float32."""
    network.to(dtype)
    kept = set(network._keep_in_fp32_modules)
    for name, module in network.named_modules():
        if kept & set(name.split(".")):
            module.float()
    for name, parameter in network.named_parameters():
        if kept & set(name.split(".")):
            parameter.data = parameter.data.float()
    return network
