"""What a picture's style is, as one unit vector: the descriptor Psi of RB-Modulation (arXiv 2405.17401).

With weights given it is CSD (Somepalli et al. 2024, arXiv 2404.01292) or the image embedding of CLIP; without
any, means and deviations of the model's own encoder. All are differentiable in the picture and computed in
float32, because gradients through them underflow in half precision.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from operators.clip_pixels import clip_pixels
from operators.errors import ModelError
from operators.models import LatentModel


class Descriptor(Protocol):
    """Pictures [B, 3, H, W] in [-1, 1] to unit vectors [B, D], float32; rows are independent."""

    def __call__(self, pictures: Tensor) -> Tensor:
        """Differentiable in ``pictures``."""


def statistics_vector(features: Sequence[Tensor]) -> Tensor:
    """Unit vector [B, D] of per-channel means and unbiased deviations over space of features [B, C_l, H_l,
    W_l], every level side by side."""
    parts = []
    for level in features:
        cells = level.float().flatten(2)
        parts += [cells.mean(2), cells.var(2).clamp_min(1e-12).sqrt()]
    return F.normalize(torch.cat(parts, 1), dim=1)


@dataclass(frozen=True)
class EncoderDescriptor:
    """Statistics of what the blocks of the model's own encoder make of a picture, scale by scale (AdaIN's
    view of style, Huang and Belongie 2017)."""

    model: LatentModel

    @functools.cached_property
    def _encoder(self) -> nn.Module:
        encoder = self.model.vae.encoder
        if self.model.vae.dtype == torch.float32:
            return encoder
        return copy.deepcopy(encoder).float()

    def __call__(self, pictures: Tensor) -> Tensor:
        """Sides that are no multiples of the autoencoder's factor are filled up with the border."""
        factor = self.model.vae_factor
        height, width = pictures.shape[2:]
        padding = (0, -width % factor, 0, -height % factor)
        pictures = F.pad(pictures.float(), padding, mode="replicate")
        if not isinstance(self.model.vae, AutoencoderKL):
            return statistics_vector([self.model.encode(pictures)])
        features = [self._encoder.conv_in(pictures)]
        for block in self._encoder.down_blocks:
            features.append(block(features[-1]))
        return statistics_vector(features)


@dataclass(frozen=True)
class ClipDescriptor:
    """Image embedding of a CLIP vision tower; with ``style`` [width, D], CSD's projection, that of the
    tower's pooled state before CLIP's own projection."""

    tower: Any
    side: int
    style: Tensor | None = None

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> ClipDescriptor:
        """From a directory of a transformers CLIP vision tower in safetensors; ``csd.safetensors`` in it with
        a matrix ``style`` makes it CSD. Raises ModelError naming what is missing."""
        from transformers import CLIPVisionModelWithProjection

        try:
            tower = CLIPVisionModelWithProjection.from_pretrained(
                folder, use_safetensors=True, local_files_only=True
            )
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(f"{folder} holds no CLIP vision tower in safetensors: {error}") from error
        tower = tower.float().to(device).eval().requires_grad_(False)
        return cls(tower, tower.config.image_size, _csd_matrix(folder, tower.config.hidden_size, device))

    def __call__(self, pictures: Tensor) -> Tensor:
        """Short side to the tower's side (bicubic), centre cut, CLIP's mean and deviation."""
        x = clip_pixels(pictures, self.side)
        if self.style is None:
            return F.normalize(self.tower(pixel_values=x).image_embeds, dim=1)
        pooled = self.tower.vision_model(pixel_values=x).pooler_output
        return F.normalize(pooled @ self.style, dim=1)


def _csd_matrix(folder: Path, width: int, device: str) -> Tensor | None:
    path = folder / "csd.safetensors"
    if not path.is_file():
        return None
    try:
        style = load_file(path)["style"]
    except (KeyError, SafetensorError) as error:
        raise ModelError(f"{path}: the matrix 'style' is missing or cannot be read: {error}") from error
    if style.ndim != 2 or style.shape[0] != width:
        raise ModelError(f"{path}: 'style' is {tuple(style.shape)}, and the tower's states are {width} wide")
    return style.float().to(device)


def pooled_descriptor(descriptor: Descriptor, pictures: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """One unit vector [1, D] for several references: the weighted mean of theirs, scaled to length one."""
    parts = [weight * descriptor(picture) for picture, weight in zip(pictures, weights, strict=True)]
    return F.normalize(torch.cat(parts).sum(0, keepdim=True), dim=1)
