"""Denoising of what a latent cannot hold.

An analytic latent keeps the leading components of a block transform; the rest of a noisy picture never
meets the network. Its components have small, known variances: an empirical Wiener filter suits them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

#: Blocks along one side of the neighbourhood that shares a signal level.
WINDOW = 7


@dataclass(frozen=True)
class LatentComplement:
    """``basis`` [D, K] float32: orthonormal components that the latent leaves out, over D = 3 b b values of
    a block (channel, row, column); ``variances`` [K] of their coefficients in pictures on [-1, 1]."""

    basis: Tensor
    variances: Tensor

    def to(self, device: str | torch.device) -> LatentComplement:
        """The same components on ``device``."""
        return LatentComplement(self.basis.to(device), self.variances.to(device))

    def denoise(self, y: Tensor, estimate: Tensor, sigma: float) -> Tensor:
        """``estimate`` plus what ``y`` = x + noise of std ``sigma`` says of x outside the latent.

        All pictures [B, 3, H, W] on [-1, 1], sides multiples of the block. The coefficients e of
        y - estimate are s + n, n white of std ``sigma`` (the estimate has not seen them), s taken as
        Gaussian with variances a v, where a is common to a neighbourhood of blocks: the least-squares fit
        of E[e^2] = a v + sigma^2, less one standard deviation of that fit under noise alone, so that
        nothing is taken from noise for signal. Then E[s | e] = a v / (a v + sigma^2) e.
        """
        block = round((self.basis.shape[0] / 3) ** 0.5)
        e = torch.einsum("dk,bdhw->bkhw", self.basis, F.pixel_unshuffle(y - estimate, block))
        v = self.variances.view(1, -1, 1, 1)
        power = float(self.variances.square().sum())
        fit = ((e.square() - sigma**2) * v).sum(1, keepdim=True) / power
        padded = F.pad(fit, [WINDOW // 2] * 4, mode="replicate")
        doubt = sigma**2 * (2.0 / power) ** 0.5 / WINDOW
        level = (F.avg_pool2d(padded, WINDOW, stride=1) - doubt).clamp_min(0.0) * v
        s = level / (level + sigma**2) * e
        return estimate + F.pixel_shuffle(torch.einsum("dk,bkhw->bdhw", self.basis, s), block)
