"""SVI (Kwon and Ye 2025, "Solving Video Inverse Problems Using Image Diffusion Models", arXiv 2409.02574):
an image prior on the frames of a clip, tied together by shared noise and one data step for all of them.

With an autoencoder in between it is the core of VISION-XL (Kwon and Ye 2024, arXiv 2412.00156)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from operators.solvers.base import LatentPrior, State
from operators.solvers.levels import next_level
from operators.solvers.reencode import NormalFit
from operators.solvers.step_rules import renoise


@dataclass(frozen=True)
class Svi:
    """The batch is a whole clip. Per step: z0 of every frame, conjugate gradients on the clip (``fit`` with
    ``joint`` where the operator couples frames), then renoise with a share ``eta`` of fresh noise.

    The noise must be shared: first frame's start noise and draws go to all frames (algorithm 1); ``shared``
    off is the paper's ablation, every frame its own. As published the ``fit`` has no weight and conjugate
    gradients run to the data: noise in the measurement is reproduced. As released, a next timestep of 0 gets
    the clean latent itself. Results depend on the clip's extent by design.
    """

    fit: NormalFit
    timesteps: tuple[int, ...]
    eta: float = 0.15
    shared: bool = True

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        return State(z=self._common(noise), y=self.fit.operator.restrict(y))

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        prediction = prior.predict(state.z, self.timesteps[i])
        there = next_level(prior, self.timesteps, i)
        x = self.fit.picture(prediction.z0, state.y, prior)
        z0 = prior.encode(x)
        if self.timesteps[i + 1 : i + 2] == (0,):
            return replace(state, z=z0, x=x, z0=z0)
        fresh = self._common(state.normal(i, "renoise"))
        return replace(state, z=renoise(z0, prediction.eps, fresh, there, self.eta), x=x, z0=z0)

    def _common(self, noise: Tensor) -> Tensor:
        return noise[:1].expand_as(noise) if self.shared else noise

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        """The last fitted clip."""
        assert state.x is not None
        return state.x
