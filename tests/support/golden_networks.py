"""Networks, operators and recorded draws of the golden files, as the interfaces that solvers consume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from operators.solvers.base import Prediction
from operators.solvers.guidance import Branches, mixed


@dataclass
class GoldenPrior:
    """Tiny random VAE and UNet of a golden file with two text conditions, and classifier-free guidance."""

    vae: AutoencoderKL
    unet: UNet2DConditionModel
    alphas_cumprod: Tensor
    final_alpha_cumprod: Tensor
    tokens: tuple[Tensor, Tensor]
    guidance: float = 1.0
    noise_gain: float = 1.0
    complement: None = None
    kind: str = "diffusion"

    def encode(self, x: Tensor) -> Tensor:
        return self.vae.encode(x).latent_dist.mean * self.vae.config.scaling_factor

    def decode(self, z: Tensor) -> Tensor:
        return self.vae.decode(z / self.vae.config.scaling_factor).sample

    def predict(self, z: Tensor, t: int) -> Prediction:
        return mixed(self.branches(z, t), self.guidance)

    def branches(self, z: Tensor, t: int) -> Branches:
        ab = self.alphas_cumprod[t]
        both = []
        for tokens in self.tokens:
            eps = self.unet(z, t, encoder_hidden_states=tokens).sample
            both.append(Prediction((z - (1 - ab).sqrt() * eps) / ab.sqrt(), eps))
        return Branches(*both)


def golden_prior(
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    tokens: tuple[str, str] = ("uc", "c"),
    guidance: float = 1.0,
) -> GoldenPrior:
    """The prior of a golden file with the names of its unconditional and conditional tokens."""
    vae = AutoencoderKL.from_config(facts["vae_config"])
    unet = UNet2DConditionModel.from_config(facts["unet_config"])
    for prefix, net in (("vae/", vae), ("unet/", unet)):
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        net.load_state_dict(state, strict=True)
        net.eval().requires_grad_(False)
    table = tensors["alphas_cumprod"]
    final = tensors.get("final_alpha_cumprod", table[:1]).squeeze()
    return GoldenPrior(vae, unet, table, final, (tensors[tokens[0]], tensors[tokens[1]]), guidance)


def toy_network(tensors: Mapping[str, Tensor], prefix: str = "net/", dtype: torch.dtype = torch.float32):
    """eps(x, t) = c2(tanh(c1(x) + t / 1000)), 3x3 convolutions with zero padding."""
    weights = {k.removeprefix(prefix): v.to(dtype) for k, v in tensors.items() if k.startswith(prefix)}

    def network(x: Tensor, t: int) -> Tensor:
        hidden = torch.nn.functional.conv2d(x, weights["c1.weight"], weights["c1.bias"], padding=1)
        hidden = torch.tanh(hidden + t / 1000)
        return torch.nn.functional.conv2d(hidden, weights["c2.weight"], weights["c2.bias"], padding=1)

    return network


@dataclass
class RecordedDraws:
    """Stored draws by purpose and step; anything else asked for is an error."""

    recorded: Mapping[str, Mapping[int, Tensor]]

    def normal(self, like: Tensor, step: int, purpose: str) -> Tensor:
        draw = self.recorded[purpose][step]
        assert draw.shape == like.shape
        return draw.to(like)


def in_order(draws: Tensor, steps: Any = None) -> dict[int, Tensor]:
    """{step: draw} for draws stored in order of execution, at ``steps`` or 0, 1, 2, ..."""
    return dict(zip(range(len(draws)) if steps is None else steps, draws, strict=True))


def assert_matches(ours: Tensor, reference: Tensor, facts: Mapping[str, Any], name: str = "default") -> None:
    """max |ours - reference| <= tolerance max |reference|, the rule of the golden files."""
    tolerances = facts["tolerance"]
    tolerance = tolerances.get(name, tolerances["default"])
    assert ours.shape == reference.shape
    gap = (ours - reference).abs().max() / reference.abs().max()
    assert gap <= tolerance, f"{name}: {float(gap):.2e} > {tolerance}"
