"""Training the diffusion prior in the analytic latent, with references that matter.

v-prediction (Salimans & Ho 2022: v = sqrt(ab) eps - sqrt(1-ab) z0), plain squared error, noise levels
log-normal. Every batch is made of pairs: a frame, and another view of its picture as reference, whose keys
and values the frame's self-attention reads. Left to the denoising loss alone, attention stays inert
(measured: 0.0 % of the loss after 7,000 iterations); so where a view shows the same content, the attention
between frame and reference is taught the known match directly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from operators.attention.install import install, shared_layers
from operators.klt import BlockKLT
from operators.metrics.reference_table import REFERENCE_TIMESTEP, reference_table
from operators.noise import keyed_generator
from operators.training.device import Precision
from operators.training.pairing import pair_attention
from operators.training.pictures import TrainingSet, largest_side
from operators.training.sizes import draw_side, rows_of
from operators.training.views import draw_views

#: The match is taught on crops up to this side: its target has (side / 8)^4 entries.
LARGEST_MATCHED = 192
#: Held-out pairs behind the curve, and their side.
HELD_OUT_PAIRS = 24
HELD_OUT_SIDE = 128


@dataclass(frozen=True)
class NoiseMix:
    """Ratios noise / signal are log-normal(ln ``median``, ``spread``); the frame takes the larger of two
    draws, its reference the smaller, or is almost clean with probability ``clean`` where it is read."""

    median: float = 0.4
    spread: float = 1.3
    clean: float = 0.75


@dataclass(frozen=True)
class SharingMix:
    """``alone``: share of batches without references. ``decoder``: of those that read, the share in which
    only the decoder's layers do, as in jobs. ``match``: weight of the taught match in the loss."""

    alone: float = 0.15
    decoder: float = 0.3
    match: float = 0.2


def balance(ab: Tensor) -> Tensor:
    """Weight 2 sqrt(ab (1 - ab)) of a row's error in v: every noise level counts about the same.

    The error of a trained prior in z0 grows about linearly with noise / signal r, so that in v it goes as
    (1 + r^2) / r = 1 / sqrt(ab (1 - ab)): plain errors are mostly those at little noise, where no reference
    can help, and drown what references are worth (measured: 5 % of the loss at t = 400).
    """
    return 2.0 * (ab * (1.0 - ab)).sqrt()


class PriorTask:
    """Trains ``network`` on latents of `BlockKLT` under the schedule ``alphas_cumprod`` [T]; ``origin``
    identifies the weights it begins with."""

    name = "unet"

    def __init__(
        self,
        network: UNet2DConditionModel,
        klt: BlockKLT,
        null_condition: Tensor,
        alphas_cumprod: Tensor,
        pictures: TrainingSet,
        *,
        seed: int,
        pixels: int,
        precision: Precision,
        origin: str = "",
    ) -> None:
        self.network, self.klt, self._pictures = network, klt, pictures
        self._condition = null_condition.to(precision.device)
        self._alphas = alphas_cumprod.to(precision.device)
        self._ratios = ((1 - alphas_cumprod) / alphas_cumprod).sqrt().cpu()
        self._seed, self._pixels, self._precision, self._origin = seed, pixels, precision, origin
        self._noise, self._sharing = NoiseMix(), SharingMix()
        layers = shared_layers(network, decoder_only=False)
        decoder = shared_layers(network, decoder_only=True)
        self._layers = {False: frozenset(layers), True: frozenset(decoder)}
        self._largest = largest_side(pictures.training)
        views = draw_views(
            pictures.held_out,
            keyed_generator("held-out pairs"),
            count=HELD_OUT_PAIRS,
            side=HELD_OUT_SIDE,
            mixed=False,
        )
        self._held_out = (views.frames, views.references)

    @property
    def identity(self) -> str:
        """What a checkpoint must agree with."""
        run = (self._pictures.digest, self._seed, self._pixels, self._precision, self._origin)
        return repr((self.name, run, self._noise, self._sharing))

    def loss(self, iteration: int) -> Tensor:
        """Mean squared error of v, plus the weighted match loss where the match is taught."""
        generator = keyed_generator(self._seed, self.name, iteration)
        side = draw_side(generator, self._largest)
        # Half of a batch are references.
        pairs = rows_of(side, self._pixels // 2)
        views = draw_views(self._pictures.training, generator, count=pairs, side=side)
        alone, decoder = (float(u) for u in torch.rand(2, generator=generator))
        reads = alone >= self._sharing.alone
        t, weight = self._draw_timesteps(generator, pairs, self._noise.clean if reads else 0.0)
        device = self._precision.device
        z0 = self.klt.encode(torch.cat([views.frames, views.references]).to(device))
        noise = torch.randn(z0.shape, generator=generator).to(device)
        ab = self._alphas[t].view(-1, 1, 1, 1)
        z, v = ab.sqrt() * z0 + (1 - ab).sqrt() * noise, ab.sqrt() * noise - (1 - ab).sqrt() * z0
        with pair_attention(self.network) as state, self._precision.autocast():
            if reads:
                state.reading = self._layers[decoder < self._sharing.decoder]
                state.match = views.displacement if side <= LARGEST_MATCHED else None
                state.picture_side = side
            output = self.network(
                z, t, encoder_hidden_states=self._condition.expand(2 * pairs, -1, -1)
            ).sample
        error = (output.float() - v).square().mean((1, 2, 3))
        weight = weight * balance(ab).flatten()
        loss = (error * weight).sum() / weight.sum()
        if state.match_losses:
            loss = loss + self._sharing.match * torch.stack(state.match_losses).mean()
        return loss

    @torch.no_grad()
    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """Held-out loss at the timesteps of the reference table: with no, the own and a foreign reference."""
        views = self._held_out
        frames, references = (self.klt.encode(x.to(self._precision.device)) for x in views)

        def estimate(z: Tensor, t: int) -> Tensor:
            ab = self._alphas[t]
            with self._precision.autocast():
                output = network(z, t, encoder_hidden_states=self._condition).sample
            return ab.sqrt() * z - (1 - ab).sqrt() * output.float()

        with install(network) as session:
            rows = reference_table(estimate, session, self._alphas, frames, references)
        return {
            f"t{row.timestep}_{kind}": float(getattr(row, kind).mean())
            for row in rows
            for kind in ("none", "own", "foreign")
        }

    def _draw_timesteps(
        self, generator: torch.Generator, pairs: int, clean_share: float
    ) -> tuple[Tensor, Tensor]:
        """Timesteps [2B] of frames and references, and the weight of each row in the loss: almost clean
        references are there to be read, not to be learnt."""
        mix = self._noise
        draws = torch.randn(2, pairs, generator=generator)
        ratios = (math.log(mix.median) + mix.spread * draws).exp()
        t = torch.searchsorted(self._ratios, ratios.contiguous()).clamp_max(len(self._ratios) - 1)
        frames, references = t.amax(0), t.amin(0)
        clean = torch.rand(pairs, generator=generator) < clean_share
        references = torch.where(clean, torch.full_like(references, REFERENCE_TIMESTEP), references)
        weight = torch.cat([torch.ones(pairs), (~clean).float()])
        return torch.cat([frames, references]).to(self._precision.device), weight.to(self._precision.device)
