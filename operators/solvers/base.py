"""What every solver consumes and is: a latent prior, and a loop cut into steps.

A solver is step-synchronous: all frames of a job meet the network at the same timesteps, so that
reference frames can be replayed beside them and share attention. Between steps a frame is a frozen
``State``; ``state.z`` at step ``i`` is exactly what the network sees at ``timesteps[i]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from operators.complement import LatentComplement


@dataclass(frozen=True)
class Prediction:
    """Network output in both usual forms, each [B, C, h, w]: Tweedie mean ``z0`` and noise ``eps``.

    ``z = sqrt(ab) z0 + sqrt(1-ab) eps`` holds for every parametrisation.
    """

    z0: Tensor
    eps: Tensor


class LatentPrior(Protocol):
    """A latent diffusion prior with its conditioning already bound.

    ``alphas_cumprod``: float32 [T], diffusers convention (table[t] belongs to timestep t).
    ``final_alpha_cumprod``: the alpha-bar after the last step.
    ``noise_gain``: latent standard deviation caused by white pixel noise of unit standard
    deviation on the [-1, 1] range (2 * gain on [0, 1]).
    ``complement``: the components of pictures that the latent leaves out, where they are known.
    """

    alphas_cumprod: Tensor
    final_alpha_cumprod: Tensor
    noise_gain: float
    complement: LatentComplement | None

    def encode(self, x: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in [-1, 1] to scaled latents (posterior mean)."""

    def decode(self, z: Tensor) -> Tensor:
        """Scaled latents to pixels, unclipped."""

    def predict(self, z: Tensor, t: int) -> Prediction:
        """One network evaluation, differentiable in ``z`` when grad mode is on."""


@dataclass(frozen=True)
class State:
    """A batch of frames between two steps. ``z`` [B, C, h, w] float32 latents; ``y`` the measurement
    [B, 3, h', w'] in [-1, 1]; ``x`` the current pixel estimate where the solver keeps one."""

    z: Tensor
    y: Tensor
    x: Tensor | None = None


class StepSolver(Protocol):
    """One restoration algorithm. ``timesteps`` is descending and fixed by the spec alone."""

    timesteps: tuple[int, ...]

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        """First state from measurements ``y`` and keyed standard normal latents ``noise``."""

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        """One network step at ``timesteps[i]``."""

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        """The restored picture [B, 3, H, W], nominally in [-1, 1], unclipped."""


@runtime_checkable
class Mirrors(Protocol):
    """A solver that shows the network mirror images."""

    def mirrored_axes(self, i: int) -> tuple[int, ...]:
        """Axes of [B, C, h, w] along which what the network sees at step ``i`` is mirrored."""


def mirrored_axes(solver: StepSolver, i: int) -> tuple[int, ...]:
    """Axes along which ``solver`` mirrors what the network sees at step ``i``; () for most solvers."""
    return solver.mirrored_axes(i) if isinstance(solver, Mirrors) else ()


def per_sample_norm(r: Tensor) -> Tensor:
    """Euclidean norm per batch row, [B]; 1e-12 inside the root keeps the gradient at zero finite."""
    return torch.sqrt(r.flatten(1).square().sum(1) + 1e-12)
