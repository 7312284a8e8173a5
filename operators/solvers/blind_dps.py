"""BlindDPS (Chung et al. 2023, "Parallel Diffusion Models of Operator and Image for Blind Inverse Problems",
arXiv 2211.10656): picture and blur kernel are two diffusions that meet in the data term."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.solvers.base import LatentPrior, Prediction, State, per_sample_norm
from operators.solvers.data_steps import detached
from operators.solvers.levels import level, next_level
from operators.solvers.step_rules import ancestral

Border = Literal["constant", "reflect", "circular"]


class KernelPrior(Protocol):
    """A diffusion over kernels [B, 1, k, k] in [-1, 1] on the picture's noise levels."""

    def predict(self, k: Tensor, t: int) -> Prediction:
        """One network evaluation, differentiable in ``k``."""


@dataclass(frozen=True)
class BlindState(State):
    """``kernel``: the kernel's chain with a kernel prior; without one the kernel itself. [B, 1, k, k] or,
    shared by a scene, [1, 1, k, k]. ``estimate``: the normalised kernel of the last step."""

    kernel: Tensor | None = None
    estimate: Tensor | None = None


@dataclass(frozen=True)
class BlindDps:
    """Both chains step ancestrally and descend ||y - k * D(z0)|| + kernel_weight ||k||_p by rho_t = scale
    sqrt(ab_t) (the code's step size; the paper writes a constant).

    ``first_kernel`` [1, 1, k, k]: standard normal where there is a ``kernel_prior``, else a guess of the
    kernel, which descends on the simplex by ``kernel_rate`` (our reading of the uniform prior), or stays
    where that is 0. ``shared``: one kernel for all rows, its gradient their sum: for the anchors of a scene;
    a frame that must not depend on its neighbours has its own, or the scene's. k = (k0 + 1) / 2, normalised.
    ||k||_1 is 1 always, so p = 1 does nothing.
    """

    timesteps: tuple[int, ...]
    first_kernel: Tensor
    kernel_prior: KernelPrior | None = None
    scale: float = 1.0
    kernel_rate: float = 1e-3
    kernel_weight: float = 0.0
    kernel_norm: float = 2.0
    border: Border = "reflect"
    shared: bool = False

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> BlindState:
        rows = 1 if self.shared else len(y)
        kernel = self.first_kernel.to(y).expand(rows, -1, -1, -1)
        return BlindState(z=noise, y=y, kernel=kernel)

    def step(self, i: int, state: State, prior: LatentPrior) -> BlindState:
        assert isinstance(state, BlindState)
        t = self.timesteps[i]
        picture, told, kernel, pulls = self._gradients(t, state, prior)
        here, there = level(prior, t), next_level(prior, self.timesteps, i)
        last = i + 1 == len(self.timesteps)
        fresh = None if last else state.normal(i, "renoise")
        rho = self.scale * here.ab.sqrt()
        z = ancestral(state.z, picture, here, there, fresh) - rho * pulls[0]
        if told is None and self.kernel_rate == 0.0:
            moved = state.kernel
        elif told is None:
            moved = on_simplex(state.kernel - self.kernel_rate * pulls[1])
        else:
            own = None if last else state.normal(i, "kernel", like=state.kernel)
            moved = ancestral(state.kernel, told, here, there, own) - rho * pulls[1]
        return replace(state, z=z, z0=picture.z0, kernel=moved, estimate=kernel)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        return prior.decode(state.z)

    def learned(self, state: State) -> Mapping[str, Tensor]:
        """``kernel`` [k, k] of a sum of one, where all rows share it; see `operators.solvers.base.Learns`."""
        assert isinstance(state, BlindState)
        kernel = state.kernel if self.kernel_prior is None else state.estimate
        return {"kernel": kernel[0, 0]} if self.shared and kernel is not None else {}

    def _gradients(
        self, t: int, state: BlindState, prior: LatentPrior
    ) -> tuple[Prediction, Prediction | None, Tensor, tuple[Tensor, Tensor]]:
        """Predictions of both networks, the normalised kernel, and the loss's gradients (picture, kernel)."""
        with torch.enable_grad():
            z = state.z.detach().requires_grad_(True)
            chain = state.kernel.detach().requires_grad_(True)
            picture = prior.predict(z, t)
            told = None if self.kernel_prior is None else self.kernel_prior.predict(chain, t)
            kernel = chain if told is None else normalised(told.z0)
            misfit = per_sample_norm(state.y - correlate(prior.decode(picture.z0), kernel, self.border))
            size = torch.linalg.vector_norm(kernel.flatten(1), ord=self.kernel_norm, dim=1)
            loss = misfit.sum() + self.kernel_weight * size.sum()
            pulls = torch.autograd.grad(loss, (z, chain))
        return detached(picture), None if told is None else detached(told), kernel.detach(), pulls


def normalised(k0: Tensor) -> Tensor:
    """Kernels on [-1, 1] to non-negative ones of sum one, per row."""
    positive = (k0 + 1.0) / 2.0
    return positive / positive.sum((1, 2, 3), keepdim=True)


def correlate(x: Tensor, kernel: Tensor, border: Border) -> Tensor:
    """Each row [3, H, W] correlated with its kernel [B or 1, 1, k, k] (not flipped), same size."""
    reach = kernel.shape[-1] // 2
    padded = F.pad(x, [reach] * 4, mode=border)
    rows = kernel.expand(len(x), -1, -1, -1).repeat_interleave(x.shape[1], 0)
    out = F.conv2d(padded.reshape(1, -1, *padded.shape[2:]), rows, groups=len(rows))
    return out.view(x.shape)


def on_simplex(kernel: Tensor) -> Tensor:
    """The nearest non-negative kernel of sum one, per row (Duchi et al. 2008)."""
    flat = kernel.flatten(1)
    ordered = flat.sort(dim=1, descending=True).values
    excess = ordered.cumsum(1) - 1.0
    counts = torch.arange(1, flat.shape[1] + 1, device=flat.device, dtype=flat.dtype)
    support = (ordered - excess / counts > 0.0).sum(1, keepdim=True)
    shift = excess.gather(1, support - 1) / support
    return (flat - shift).clamp_min(0.0).view_as(kernel)
