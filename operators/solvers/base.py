"""What every solver consumes and is: a latent prior, and a loop cut into steps.

A solver is step-synchronous: all frames of a job meet the network at the same timesteps, so that
reference frames can be replayed beside them and share attention. Between steps a frame is a frozen
``State``; ``state.z`` at step ``i`` is exactly what the network sees at ``timesteps[i]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from operators.complement import LatentComplement
from operators.errors import OperatorError


@dataclass(frozen=True)
class Prediction:
    """Network output in both usual forms, each [B, C, h, w]: Tweedie mean ``z0`` and noise ``eps``.

    ``z = a z0 + b eps`` holds for every parametrisation, (a, b) of `operators.solvers.levels`; guidance
    rules that renoise with another branch (CFG++) give it up knowingly. ``variance_share``: output in
    [-1, 1] of networks that learn the variance of the ancestral step, else None.
    """

    z0: Tensor
    eps: Tensor
    variance_share: Tensor | None = None


class LatentPrior(Protocol):
    """A latent diffusion prior with its conditioning already bound.

    ``alphas_cumprod``: float32 [T], diffusers convention (table[t] belongs to timestep t).
    ``final_alpha_cumprod``: the alpha-bar after the last step.
    ``noise_gain``: latent standard deviation caused by white pixel noise of unit standard
    deviation on the [-1, 1] range (2 * gain on [0, 1]).
    ``complement``: the components of pictures that the latent leaves out, where they are known.

    A prior may say its ``kind``: "diffusion" (the default), "flow" (z = (1-s) z0 + s eps, the table holding
    the alpha-bars of equal signal-to-noise ratio) or "consistency" (z0 is a sample, good in few steps).
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


class NoiseSource(Protocol):
    """Standard normal draws keyed by what they are for, one key per frame of the batch."""

    def normal(self, like: Tensor, step: int, purpose: str) -> Tensor:
        """Noise of the shape, dtype and device of ``like`` [B, ...]. Row b is a function of its frame,
        ``step`` and ``purpose``: never of its neighbours, nor of what was drawn before."""


@dataclass(frozen=True)
class State:
    """A batch of frames between two steps. ``z`` [B, C, h, w] float32 latents; ``y`` the measurement
    [B, 3, h', w'] in [-1, 1]; ``x`` the current pixel estimate and ``z0`` the current clean latent where
    the solver keeps them; ``draws`` where stochastic solvers get their noise. Solvers that carry more
    subclass it."""

    z: Tensor
    y: Tensor
    x: Tensor | None = None
    z0: Tensor | None = None
    draws: NoiseSource | None = None

    def normal(self, step: int, purpose: str, like: Tensor | None = None) -> Tensor:
        """Noise shaped like ``z`` (or ``like``). Raises OperatorError when nobody gave a source."""
        return self.drawn_from.normal(self.z if like is None else like, step, purpose)

    @property
    def drawn_from(self) -> NoiseSource:
        """``draws``. Raises OperatorError when nobody gave any."""
        if self.draws is None:
            raise OperatorError(
                "solver: it draws noise at every step; begin it with a NoiseSource "
                "(operators.noise.FrameDraws) or use a deterministic solver such as dpir"
            )
        return self.draws


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


@runtime_checkable
class Learns(Protocol):
    """A solver that finds out something about the operator."""

    def learned(self, state: State) -> Mapping[str, Tensor]:
        """What the last state knows, by the name of the asset of `build_operator` that it is."""


def learned(solver: StepSolver, state: State) -> Mapping[str, Tensor]:
    """What ``solver`` found out about the operator; nothing for most solvers."""
    return solver.learned(state) if isinstance(solver, Learns) else {}


def begin(
    solver: StepSolver, y: Tensor, noise: Tensor, prior: LatentPrior, draws: NoiseSource | None = None
) -> State:
    """The solver's first state, holding the noise source that its steps will draw from."""
    state = solver.start(y, noise, prior)
    return state if draws is None else replace(state, draws=draws)


def restore(
    solver: StepSolver, y: Tensor, noise: Tensor, prior: LatentPrior, draws: NoiseSource | None = None
) -> Tensor:
    """All steps of ``solver`` on a batch that reads no references: the picture of `StepSolver.finish`."""
    with torch.no_grad():
        state = begin(solver, y, noise, prior, draws)
        for i in range(len(solver.timesteps)):
            state = solver.step(i, state, prior)
        return solver.finish(state, prior)


def per_sample_norm(r: Tensor) -> Tensor:
    """Euclidean norm per batch row, [B]; 1e-12 inside the root keeps the gradient at zero finite."""
    return torch.sqrt(r.flatten(1).square().sum(1) + 1e-12)
