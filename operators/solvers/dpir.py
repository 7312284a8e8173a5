"""DPIR (Zhang et al. 2021, "Plug-and-Play Image Restoration with Deep Denoiser Prior",
arXiv 2008.13751) with a latent diffusion model as the denoiser."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.degradations.inpainting import Inpainting
from operators.degradations.video_inpainting import VideoInpainting
from operators.solvers.back_projection import spread_prox
from operators.solvers.base import LatentPrior, State
from operators.solvers.levels import level
from operators.solvers.smooth_fill import smooth_fill

# Axes that step i mod 4 mirrors. Transposing as well would change the latent's shape on the way.
_MIRRORED: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))


@dataclass(frozen=True)
class Dpir:
    """Half-quadratic splitting: the data prox (eq. 6a) and the denoiser (eq. 6b) take turns.

    At step k the estimate u is moved to x_k = argmin ||A x - y||^2 + lam sigma_y^2 / sigma_k^2
    ||x - u||^2, that is the prox of weight ``weights[k]`` = sigma_k^2 / (lam sigma_y^2), and
    sqrt(ab) E(x_k) is shown to the network at the timestep of noise level sigma_k as if x_k carried
    that noise; none is added. Deterministic: ``noise`` of ``start`` is ignored.

    ``mirrored`` shows it each step in another mirror image (the paper's periodical geometric self-ensemble,
    section 4.2): what network and autoencoder get wrong in a fixed direction does not add up over the steps.
    Every frame is mirrored alike, so frames that share attention still agree. ``x`` of a state is mirrored
    as its ``z`` is, ``y`` never is.
    """

    operator: ForwardOperator
    timesteps: tuple[int, ...]
    weights: tuple[float, ...]
    final_weight: float
    mirrored: bool = False

    def start(self, y: Tensor, noise: Tensor, prior: LatentPrior) -> State:
        y = self.operator.restrict(y)
        first = spread_prox(self.operator, starting_picture(self.operator, y), y, self.weights[0])
        return self._present(0, first, y, prior)

    def step(self, i: int, state: State, prior: LatentPrior) -> State:
        z0 = prior.predict(state.z, self.timesteps[i]).z0
        estimate = self._mirror(i, prior.decode(z0))
        if i + 1 == len(self.timesteps):
            return State(z=z0, y=state.y, x=estimate)
        moved = self.operator.prox(estimate, state.y, self.weights[i + 1])
        return self._present(i + 1, moved, state.y, prior)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        """The last estimate after one more data prox, of weight ``final_weight``, spread smoothly."""
        assert state.x is not None
        return spread_prox(self.operator, state.x, state.y, self.final_weight)

    def _present(self, i: int, x: Tensor, y: Tensor, prior: LatentPrior) -> State:
        """The state whose z the network sees at step ``i``."""
        x = self._mirror(i, x)
        return State(z=level(prior, self.timesteps[i]).signal * prior.encode(x), y=y, x=x)

    def mirrored_axes(self, i: int) -> tuple[int, ...]:
        """See `operators.solvers.base.Mirrors`."""
        return _MIRRORED[i % len(_MIRRORED)] if self.mirrored else ()

    def _mirror(self, i: int, x: Tensor) -> Tensor:
        """Into the orientation of step ``i`` and, being an involution, back."""
        axes = self.mirrored_axes(i)
        return x.flip(axes) if axes else x


def starting_picture(operator: ForwardOperator, y: Tensor) -> Tensor:
    """What the first step is shown: the classical restoration, and in holes its mean with two smooth fills.

    The three err differently (fast marching streaks, a membrane flattens, a plate overshoots), and on
    photographs and film with boxes their mean is better than each.
    """
    classical = operator.classical(y)
    if isinstance(operator, Inpainting):
        smooth = smooth_fill(y, torch.from_numpy(operator.mask).to(y.device))
    elif isinstance(operator, VideoInpainting):
        keeps = torch.from_numpy(operator.masks).to(y.device)
        smooth = torch.cat([smooth_fill(y[i : i + 1], keep) for i, keep in enumerate(keeps)])
    else:
        return classical
    return smooth + (classical - smooth) / 3.0
