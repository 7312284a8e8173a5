"""A latent prior whose clean estimates are pulled towards those of the knots, along the source's motion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from operators.attention.hat import bracket
from operators.complement import LatentComplement
from operators.correspondence.fusion import Knot, fused
from operators.flow.motion import Motion
from operators.solvers.base import LatentPrior, Prediction
from operators.solvers.levels import prior_kind
from operators.warped_noise import Moved


@dataclass(frozen=True)
class LatentFusion:
    """Fusion of the frames of a unit: ``moved`` tells by ordinal between which knots a frame lies and its
    motion to both, in latent cells; ``strength`` in [0, 1] is how far estimates are pulled."""

    moved: Mapping[int, Moved]
    strength: float

    def over(
        self,
        prior: LatentPrior,
        ordinals: tuple[int, ...],
        estimate: Callable[[int], Tensor],
        mirrored: tuple[int, ...],
    ) -> FusedPrior:
        """``prior`` for the rows ``ordinals`` of a network call at one step.

        ``estimate`` gives the clean estimate [1, C, h, w] of a knot at this step. Frames and knots are seen
        ``mirrored`` along these axes of [B, C, h, w], and so is the motion.
        """
        rows = []
        for ordinal in ordinals:
            moved = self.moved[ordinal]
            at = bracket(ordinal, moved.knots)
            ends = ((at.left, at.left_weight, moved.ends.left), (at.right, at.right_weight, moved.ends.right))
            rows.append(
                tuple(_knot(estimate(knot), weight, motion, mirrored) for knot, weight, motion in ends)
            )
        return FusedPrior(prior, tuple(rows), self.strength)


@dataclass(frozen=True)
class FusedPrior:
    """``prior`` with fused estimates; ``rows`` are the knots of each row.

    ``eps`` is left as it was predicted, as Rerender does: with an ``eps`` that agrees with the fused estimate
    a small DDIM step would undo most of the pull.
    """

    prior: LatentPrior
    rows: tuple[tuple[Knot, ...], ...]
    strength: float

    @property
    def kind(self) -> str:
        """See `LatentPrior`."""
        return prior_kind(self.prior)

    @property
    def alphas_cumprod(self) -> Tensor:
        """See `LatentPrior`."""
        return self.prior.alphas_cumprod

    @property
    def final_alpha_cumprod(self) -> Tensor:
        """See `LatentPrior`."""
        return self.prior.final_alpha_cumprod

    @property
    def noise_gain(self) -> float:
        """See `LatentPrior`."""
        return self.prior.noise_gain

    @property
    def complement(self) -> LatentComplement | None:
        """See `LatentPrior`."""
        return self.prior.complement

    def encode(self, x: Tensor) -> Tensor:
        """See `LatentPrior`."""
        return self.prior.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        """See `LatentPrior`."""
        return self.prior.decode(z)

    def predict(self, z: Tensor, t: int) -> Prediction:
        """The prediction with its estimate fused; differentiable in ``z``."""
        prediction = self.prior.predict(z, t)
        pulled = [
            fused(z0[None], knots, self.strength) for z0, knots in zip(prediction.z0, self.rows, strict=True)
        ]
        return replace(prediction, z0=torch.cat(pulled))


def _knot(z0: Tensor, weight: float, motion: Motion, mirrored: tuple[int, ...]) -> Knot:
    flow = torch.from_numpy(np.ascontiguousarray(motion.flow)).to(z0).permute(2, 0, 1)[None]
    visible = torch.from_numpy(np.ascontiguousarray(motion.visible)).to(z0)[None, None]
    return Knot(z0, mirrored_flow(flow, mirrored), visible.flip(mirrored), torch.tensor([weight]))


def mirrored_flow(flow: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Flow [B, 2, h, w] (x, y) of pictures that are both mirrored along ``axes``: 2 (rows), 3 (columns)."""
    sign = torch.tensor([-1.0 if 3 in axes else 1.0, -1.0 if 2 in axes else 1.0]).to(flow)
    return flow.flip(axes) * sign[:, None, None]
