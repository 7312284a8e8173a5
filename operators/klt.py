"""The analytic latent: an orthonormal block transform of pixels, onto which the autoencoder is distilled.

Karhunen-Loeve transform (principal components) of 4x4x3 blocks of natural pictures, the strongest components
kept, one scale for all. White pixel noise stays white in it, so that denoising in the latent is denoising in
pixels. It is the training target of the autoencoder, the oracle of its tests, and a decoder for previews.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor

from operators.complement import LatentComplement
from operators.errors import ModelError


@dataclass(frozen=True)
class BlockKLT:
    """``basis`` [D, C] float32: the C leading components as columns over D = 3 b b values of a block in the
    order (channel, row, column); ``mean`` [D] of blocks in [-1, 1]; ``scale`` of the latent;
    ``complement``: the other components, where they are known."""

    basis: Tensor
    mean: Tensor
    scale: float
    complement: LatentComplement | None = None

    @property
    def block(self) -> int:
        """Pixels along one side of a block."""
        return round((self.basis.shape[0] / 3) ** 0.5)

    def encode(self, x: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in [-1, 1], sides multiples of `block`, to latents [B, C, H/b, W/b]."""
        blocks = F.pixel_unshuffle(x, self.block) - self.mean.to(x).view(1, -1, 1, 1)
        return self.scale * torch.einsum("dc,bdhw->bchw", self.basis.to(x), blocks)

    def decode(self, z: Tensor) -> Tensor:
        """Latents to pixels, unclipped; exact on pictures in the span of the kept components."""
        blocks = torch.einsum("dc,bchw->bdhw", self.basis.to(z), z) / self.scale
        return F.pixel_shuffle(blocks + self.mean.to(z).view(1, -1, 1, 1), self.block)

    def to(self, device: str | torch.device) -> BlockKLT:
        """The same transform on ``device``."""
        rest = None if self.complement is None else self.complement.to(device)
        return BlockKLT(self.basis.to(device), self.mean.to(device), self.scale, rest)


def fit_klt(pictures: Iterable[Tensor], *, block: int, channels: int) -> tuple[BlockKLT, Tensor]:
    """The transform of ``pictures`` (float [3, H, W] in [-1, 1], sides multiples of ``block``), and all
    D eigenvalues of the block covariance, descending.

    The scale makes the mean variance over the kept channels one. Components are signed so that their
    largest entry is positive: the decomposition leaves the sign open.
    """
    size = 3 * block * block
    count, total, square = 0, torch.zeros(size, dtype=torch.float64), torch.zeros(size, size).double()
    for picture in pictures:
        rows = F.pixel_unshuffle(picture[None], block)[0].flatten(1).T.double()
        count, total, square = count + len(rows), total + rows.sum(0), square + rows.T @ rows
    mean = total / count
    values, vectors = torch.linalg.eigh(square / count - torch.outer(mean, mean))
    values, vectors = values.flip(0), vectors.flip(1)
    signs = vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    basis, values = (vectors * signs).float(), values.float()
    scale = float(values[:channels].mean().rsqrt())
    rest = _rest(basis, values, channels)
    return BlockKLT(basis[:, :channels].contiguous(), mean.float(), scale, rest), values


def load_klt(path: Path) -> BlockKLT:
    """The transform of a checkpoint's ``latent.safetensors``: ``basis`` [D, D] or [D, C], ``mean`` and
    ``eigenvalues`` [D]; metadata ``scale`` and ``channels``. Raises ModelError when the file is missing or
    damaged."""
    try:
        with safe_open(path, "pt") as handle:
            facts = handle.metadata() or {}
            channels, basis = int(facts["channels"]), handle.get_tensor("basis").float()
            rest = _rest(basis, handle.get_tensor("eigenvalues").float(), channels)
            mean = handle.get_tensor("mean").float()
            return BlockKLT(basis[:, :channels].contiguous(), mean, float(facts["scale"]), rest)
    except FileNotFoundError:
        raise ModelError(f"{path} is missing: this checkpoint has no analytic latent") from None
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def _rest(basis: Tensor, eigenvalues: Tensor, channels: int) -> LatentComplement | None:
    if basis.shape[1] <= channels:
        return None
    variances = eigenvalues[channels : basis.shape[1]].clamp_min(1e-6)
    return LatentComplement(basis[:, channels:].contiguous(), variances)
