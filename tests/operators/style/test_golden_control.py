"""The published control step of RB-Modulation, step by step, on its recorded toy networks."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.solvers.base import Prediction
from operators.solvers.levels import diffusion_level, next_level
from operators.solvers.parametrisation import from_epsilon
from operators.solvers.step_rules import recombine
from operators.style.descriptor import statistics_vector
from operators.style.optimal_control import Controlled, ProximalControl, StyleTarget
from tests.support.shared import golden


class ToyPrior:
    """The file's cosine schedule (offset 0.008, alpha-bar within [1e-4, 0.9999]) and its one convolution;
    timestep n is n / T of the way to noise."""

    def __init__(self, tensors: dict[str, Tensor], steps: int) -> None:
        self.weight, self.bias = tensors["score/weight"], tensors["score/bias"]
        t = torch.arange(steps + 1) / steps
        angle = (t + 0.008) / 1.008 * math.pi / 2
        table = angle.cos().square() / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
        self.alphas_cumprod = table.clamp(1e-4, 0.9999)
        self.final_alpha_cumprod = self.alphas_cumprod[0]

    def predict(self, z: Tensor, t: int) -> Prediction:
        eps = F.conv2d(z, self.weight, self.bias, padding=1)
        return from_epsilon(z, eps, diffusion_level(self.alphas_cumprod[t]))


@torch.no_grad()
def test_the_proximal_control_reproduces_the_published_run() -> None:
    tensors, facts = golden("rbm_soc_lam0")
    timesteps = tuple(range(facts["T"], 0, -1))

    def preview(z: Tensor) -> Tensor:
        weight = tensors["previewer/weight"]
        return F.conv_transpose2d(z, weight, tensors["previewer/bias"], stride=weight.shape[-1])

    def describe(pictures: Tensor) -> Tensor:
        weight = tensors["csd/c.weight"]
        return statistics_vector([F.conv2d(pictures, weight, tensors["csd/c.bias"], stride=weight.shape[-1])])

    target = StyleTarget(describe(preview(tensors["x0_style"])), describe, preview)
    control = ProximalControl(target, facts["M"], facts["eta"], facts.get("lam", 0.0))
    prior = Controlled(ToyPrior(tensors, facts["T"]), control, timesteps)
    z = tensors["x_init"]
    for i, t in enumerate(timesteps):
        found = prior.predict(z, t)
        gap = (found.z0 - tensors["x0"][i]).abs().max() / tensors["x0"][i].abs().max()
        assert gap < 1e-4, f"estimate of step {i}: {float(gap):.1e}"
        z = recombine(found.z0, found.eps, next_level(prior, timesteps, i))
        gap = (z - tensors["out"][i]).abs().max() / tensors["out"][i].abs().max()
        assert gap < 1e-4, f"step {i}: {float(gap):.1e}"
