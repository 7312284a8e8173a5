"""Cheap previews of latents: a linear map per cell, fitted once by least squares, in place of the decoder.

RB-Modulation evaluates its descriptor on previews inside an optimisation; decoding there would cost more than
the network. The map needs no weights of its own: it is fitted to a few frames and their latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.errors import OperatorError
from operators.solvers.base import LatentPrior

#: Ridge of the fit relative to the mean variance of latent channels: flat frames stay solvable.
RIDGE = 1e-6


@dataclass(frozen=True)
class LinearPreviewer:
    """``weights`` [3 r r, C] and ``offset`` [3 r r]: every cell becomes r x r pixels."""

    weights: Tensor
    offset: Tensor
    resolution: int

    def __call__(self, z: Tensor) -> Tensor:
        """Latents [B, C, h, w] to pictures [B, 3, r h, r w], nominally in [-1, 1]; differentiable."""
        weights, offset = self.weights.to(z), self.offset.to(z)
        cells = F.conv2d(z, weights[:, :, None, None], offset)
        return F.pixel_shuffle(cells, self.resolution)


@torch.no_grad()
def fit_previewer(frames: Tensor, prior: LatentPrior, resolution: int = 1) -> LinearPreviewer:
    """Fit to ``frames`` [B, 3, H, W] in [-1, 1] and their latents, in float64.

    ``resolution`` r pixels per cell and side: 1 gives thumbnails of latent size, the autoencoder's factor
    pictures of full size. Raises OperatorError when a cell's pixels cannot be cut into r x r.
    """
    z = prior.encode(frames).double()
    factor = frames.shape[2] // z.shape[2]
    if resolution < 1 or factor % resolution:
        raise OperatorError(f"previewer: resolution {resolution} does not divide {factor} pixels per cell")
    small = F.avg_pool2d(frames.double(), factor // resolution)
    wanted = F.pixel_unshuffle(small, resolution).transpose(0, 1).flatten(1)
    given = z.transpose(0, 1).flatten(1)
    mean_in, mean_out = given.mean(1, keepdim=True), wanted.mean(1, keepdim=True)
    centred = given - mean_in
    covariance = centred @ centred.T / centred.shape[1]
    ridge = RIDGE * covariance.diagonal().mean().clamp_min(1e-12)
    system = covariance + ridge * torch.eye(len(covariance), dtype=covariance.dtype, device=z.device)
    weights = torch.linalg.solve(system, centred @ (wanted - mean_out).T / centred.shape[1]).T
    offset = (mean_out - weights @ mean_in)[:, 0]
    return LinearPreviewer(weights.float(), offset.float(), resolution)
