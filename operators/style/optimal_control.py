"""The stochastic-optimal-control step of RB-Modulation (Rout et al. 2024, arXiv 2405.17401): the clean
estimate of every step is moved until its style descriptor is that of the reference.

`ProximalControl` is algorithm 2, which the released code runs: no gradient through the network. `FullControl`
is algorithm 1: it differentiates the network, costs several times more, and is kept as the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.solvers.base import LatentPrior, Prediction
from operators.solvers.data_steps import adam
from operators.solvers.levels import level
from operators.style.descriptor import Descriptor

#: A fresh optimiser of this kind per step; the published one is Adam with its usual constants.
Optimiser = Literal["adam", "normalised"]


@dataclass(frozen=True)
class StyleTarget:
    """What the control pulls towards: ``vector`` [1, D] of the reference, the ``descriptor`` that made it,
    and ``preview``, latents to pictures."""

    vector: Tensor
    descriptor: Descriptor
    preview: Callable[[Tensor], Tensor]

    def distance(self, z0: Tensor) -> Tensor:
        """1 - cos per row, [B]: half the paper's squared distance of unit vectors."""
        found = self.descriptor(self.preview(z0))
        return 1.0 - F.cosine_similarity(found, self.vector.to(found).expand_as(found), dim=1)


@dataclass(frozen=True)
class ProximalControl:
    """argmin over x of 1 - cos(Psi(D(x)), Psi(I_s)) + ``anchor`` MSE(x, x0), ``iterations`` steps from x0.

    ``rate`` falls linearly to nothing over the run, as released. "adam" moves every value by about the rate
    whatever its gradient; "normalised" moves each row by the rate per value along its gradient. Rows do not
    see each other.
    """

    target: StyleTarget
    iterations: int = 3
    rate: float = 0.1
    anchor: float = 1.0
    optimiser: Optimiser = "adam"

    def moved(self, z0: Tensor, progress: float) -> Tensor:
        """The controlled estimate of ``z0`` [B, C, h, w]; ``progress`` in [0, 1) is the share of the run
        that is done."""
        rate = self.rate * (1.0 - progress)
        start = z0.detach().float()
        x, first, second = start, torch.zeros_like(start), torch.zeros_like(start)
        for k in range(1, self.iterations + 1):
            gradient = self._gradient(x, start)
            if self.optimiser == "normalised":
                x = x - rate * gradient / _row_rms(gradient)
            else:
                x, first, second = adam(x, gradient, first, second, k, rate)
        return x.to(z0.dtype)

    def _gradient(self, x: Tensor, start: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            loss = self.target.distance(leaf)
            if self.anchor:
                loss = loss + self.anchor * (leaf - start).square().flatten(1).mean(1)
            (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        return gradient


def _row_rms(x: Tensor) -> Tensor:
    rms = x.flatten(1).square().mean(1).sqrt().clamp_min(1e-12)
    return rms.view(-1, *[1] * (x.dim() - 1))


class Controlled:
    """A prior whose estimates `ProximalControl` moves; everything else is the wrapped prior's.

    ``renoise`` "keep" leaves the noise as it was predicted (released), "consistent" recomputes it from the
    moved estimate. ``until``: share of ``timesteps`` that are controlled, from the first one.
    """

    def __init__(
        self,
        prior: LatentPrior,
        control: ProximalControl,
        timesteps: tuple[int, ...],
        *,
        renoise: Literal["keep", "consistent"] = "keep",
        until: float = 1.0,
    ) -> None:
        self._prior, self._control, self._renoise = prior, control, renoise
        count = int(len(timesteps) * until)
        self._progress = {t: i / len(timesteps) for i, t in enumerate(timesteps[:count])}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)

    def predict(self, z: Tensor, t: int) -> Prediction:
        """The prediction with its estimate moved; outside ``timesteps`` the wrapped prior's."""
        prediction = self._prior.predict(z, t)
        if t not in self._progress:
            return prediction
        z0 = self._control.moved(prediction.z0, self._progress[t])
        if self._renoise == "keep":
            return Prediction(z0, prediction.eps, prediction.variance_share)
        at = level(self._prior, t)
        return Prediction(z0, (z - at.signal * z0) / at.noise, prediction.variance_share)


class FullControl:
    """Algorithm 1: the control u is added to the latent, and found through the network.

    u <- u - ``rate`` d/du ||Psi(I_s) - Psi(D(x0(z + u)))||^2, ``iterations`` times from u = 0; the prediction
    is then that of z + u. The latent itself stays where the solver has it: solvers recombine z0 and eps.
    """

    def __init__(
        self, prior: LatentPrior, target: StyleTarget, *, iterations: int = 3, rate: float = 0.1
    ) -> None:
        self._prior, self._target = prior, target
        self._iterations, self._rate = iterations, rate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)

    def predict(self, z: Tensor, t: int) -> Prediction:
        """The prediction at the controlled latent."""
        u = torch.zeros_like(z)
        for _ in range(self._iterations):
            with torch.enable_grad():
                leaf = u.detach().requires_grad_(True)
                # ||a - b||^2 = 2 (1 - cos) for unit vectors.
                loss = 2.0 * self._target.distance(self._prior.predict(z + leaf, t).z0)
                (gradient,) = torch.autograd.grad(loss.sum(), leaf)
            u = u - self._rate * gradient
        return self._prior.predict(z + u, t)
