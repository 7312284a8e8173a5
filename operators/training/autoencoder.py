"""Distilling AutoencoderKL onto the analytic latent.

The encoder learns the KLT coefficients, the decoder to invert them; neither needs the other's gradient.
Half of the decoder's batches are latents of the encoder being trained, so that the two fit each other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from operators.klt import BlockKLT
from operators.metrics.fidelity import psnr
from operators.noise import keyed_generator
from operators.training.device import Precision
from operators.training.pictures import TrainingSet, largest_side
from operators.training.sizes import draw_side, rows_of
from operators.training.views import draw_pictures

#: Weight of the latent error beside the pixel error: a unit of scaled latent is 1 / (2 scale) of [0, 1].
LATENT_WEIGHT = 1.0
#: Sides of the held-out crops, small and large, since GroupNorm sees the whole picture.
HELD_OUT_SIDES = (256, 512)


class AutoencoderTask:
    """Trains ``network`` in float32 parameters on pixels in [-1, 1]; latents are the KLT's, scaling factor 1.

    ``origin`` identifies the weights it begins with.
    """

    name = "vae"

    def __init__(
        self,
        network: AutoencoderKL,
        klt: BlockKLT,
        pictures: TrainingSet,
        *,
        seed: int,
        pixels: int,
        precision: Precision,
        origin: str = "",
    ) -> None:
        self.network, self.klt, self._pictures = network, klt, pictures
        self._seed, self._pixels, self._precision, self._origin = seed, pixels, precision, origin
        self._largest = largest_side(pictures.training)

    @property
    def identity(self) -> str:
        """What a checkpoint must agree with."""
        facts = (self._pictures.digest, self._seed, self._pixels, self._precision, self._origin)
        return repr((self.name, facts))

    def loss(self, iteration: int) -> Tensor:
        """Squared error of the latent against the KLT's, plus that of the decoded picture."""
        generator = keyed_generator(self._seed, self.name, iteration)
        side = draw_side(generator, self._largest)
        x = draw_pictures(
            self._pictures.training, generator, count=rows_of(side, self._pixels), side=side
        ).to(self._precision.device)
        target = self.klt.encode(x)
        with self._precision.autocast():
            latent = self.network.encode(x).latent_dist.mean
            seen = latent.detach() if iteration % 2 else target
            decoded = self.network.decode(seen).sample
        return LATENT_WEIGHT * F.mse_loss(latent.float(), target) + F.mse_loss(decoded.float(), x)

    @torch.no_grad()
    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Mean PSNR in dB of round trips of held-out centre crops, per side that the pictures allow."""
        figures = {}
        for side in HELD_OUT_SIDES:
            crops = [c for p in self._pictures.held_out if (c := p.centre(side)) is not None]
            if not crops:
                continue
            values = []
            for crop in crops:
                x = crop.to(self._precision.device)
                z = network.encode(x).latent_dist.mode()
                values.append(psnr(network.decode(z).sample.clamp(-1, 1), x, 2.0))
            figures[f"round_trip_{side}_db"] = float(torch.cat(values).mean())
        return figures
