"""The style bank: everything that is computed from the style references, once per job.

For each reference its inversion trajectory on the sampler's timesteps and its colours; for all together their
weighted statistics, where asked for the statistics of their predicted noise (RIVAL), one descriptor, a cheap
map from latents to pictures (RB-Modulation), and the tokens of an image prompt (IP-Adapter). Plain tensors,
so that it travels by reference; named by a digest of all it depends on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from operators.adapters.image_prompt import ImagePrompt
from operators.errors import OperatorError
from operators.inversion.fixed_point import fixed_point_invert
from operators.solvers.base import LatentPrior
from operators.style.descriptor import Descriptor, pooled_descriptor
from operators.style.latent_adain import ChannelMoments, channel_moments
from operators.style.previewer import LinearPreviewer, fit_previewer
from operators.style.rival import reference_noise
from operators.style.transport import LatentStatistics, latent_statistics


@dataclass(frozen=True)
class Banked:
    """One reference: ``trajectory`` [S, C, h, w] float32, and its share of the bank in (0, 1]."""

    trajectory: Tensor
    weight: float


@dataclass(frozen=True)
class StyleBank:
    """``references`` whose weights sum to one; ``statistics`` of their clean latents, mixed; ``noise`` by
    timestep, {} unless asked for; ``descriptor`` [1, D], ``preview`` and ``image_tokens`` [2, N, D], those of
    no picture and of the references, or None. ``digest`` names what all of it was made of."""

    digest: str
    references: tuple[Banked, ...]
    statistics: LatentStatistics
    noise: Mapping[int, ChannelMoments] = field(default_factory=dict)
    descriptor: Tensor | None = None
    preview: LinearPreviewer | None = None
    image_tokens: Tensor | None = None

    @property
    def start(self) -> ChannelMoments:
        """Mixed statistics of the inverted references at the sampler's first timestep."""
        return _mixed_channels(
            [channel_moments(banked.trajectory[:1]) for banked in self.references],
            [banked.weight for banked in self.references],
        )

    def last(self, steps: int) -> StyleBank:
        """The bank for the last ``steps`` timesteps of its own: inversion begins with the last one, so they
        are what an inversion over these alone would leave."""
        cut = tuple(replace(banked, trajectory=banked.trajectory[-steps:]) for banked in self.references)
        return replace(self, references=cut)

    @property
    def parts(self) -> tuple[tuple[Tensor, float], ...]:
        """Trajectories and their weights, as replays want them."""
        return tuple((banked.trajectory, banked.weight) for banked in self.references)

    def to_tensors(self) -> dict[str, Tensor]:
        """All but the digest under names that `from_tensors` reads, on the CPU and contiguous."""
        named = {"weights": torch.tensor([b.weight for b in self.references], dtype=torch.float64)}
        named |= {f"{n}/trajectory": b.trajectory for n, b in enumerate(self.references)}
        named |= {"mean": self.statistics.mean, "covariance": self.statistics.covariance}
        for t, moments in self.noise.items():
            named |= {f"noise/{t}/mean": moments.mean, f"noise/{t}/std": moments.std}
        if self.descriptor is not None:
            named["descriptor"] = self.descriptor
        if self.image_tokens is not None:
            named["image_tokens"] = self.image_tokens
        if self.preview is not None:
            named |= {"preview/weights": self.preview.weights, "preview/offset": self.preview.offset}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}

    @classmethod
    def from_tensors(cls, digest: str, tensors: Mapping[str, Tensor], device: str = "cpu") -> StyleBank:
        """The bank that `to_tensors` was called on; statistics stay on the CPU."""
        weights = tensors["weights"].tolist()
        noise = {
            int(name.split("/")[1]): ChannelMoments(
                mean.to(device), tensors[name.removesuffix("mean") + "std"].to(device)
            )
            for name, mean in tensors.items()
            if name.startswith("noise/") and name.endswith("/mean")
        }

        def optional(name: str) -> Tensor | None:
            return tensors[name].to(device) if name in tensors else None

        return cls(
            digest,
            tuple(Banked(tensors[f"{n}/trajectory"].to(device), w) for n, w in enumerate(weights)),
            LatentStatistics(tensors["mean"], tensors["covariance"]),
            noise,
            optional("descriptor"),
            _preview(tensors, device),
            optional("image_tokens"),
        )


def _preview(tensors: Mapping[str, Tensor], device: str) -> LinearPreviewer | None:
    if "preview/weights" not in tensors:
        return None
    offset = tensors["preview/offset"].to(device)
    return LinearPreviewer(tensors["preview/weights"].to(device), offset, math.isqrt(len(offset) // 3))


@dataclass(frozen=True)
class BankRecipe:
    """What a bank is made for. ``noise_above``: keep statistics of predicted noise above this timestep (None:
    none); ``descriptor``: describe the references with it; ``preview`` with so many pixels per latent cell
    and side (0: none), fitted to the first reference; ``iterations`` of each inversion step;
    ``image_prompt``: make tokens of the references by it."""

    timesteps: tuple[int, ...]
    noise_above: int | None = None
    descriptor: Descriptor | None = None
    preview: int = 0
    iterations: int = 1
    image_prompt: ImagePrompt | None = None


@torch.no_grad()
def build_bank(
    pictures: Sequence[Tensor],
    weights: Sequence[float],
    recipe: BankRecipe,
    prior: LatentPrior,
    model_digest: str,
) -> StyleBank:
    """Invert every picture [1, 3, H, W] in [-1, 1] on its own, in its own size.

    ``prior`` has an empty prompt and no guidance, and shares no attention. Raises OperatorError when there is
    no picture, or weights are not positive numbers, one per picture.
    """
    if not pictures or len(weights) != len(pictures) or not all(0 < w < float("inf") for w in weights):
        raise OperatorError(
            f"reference: {len(pictures)} pictures with weights {list(weights)}; give one positive weight each"
        )
    shares = [weight / sum(weights) for weight in weights]
    cleans = [prior.encode(picture) for picture in pictures]
    trajectories = [
        fixed_point_invert(z0, recipe.timesteps, prior, iterations=recipe.iterations) for z0 in cleans
    ]
    noise: dict[int, ChannelMoments] = {}
    if recipe.noise_above is not None:
        found = [reference_noise(z, recipe.timesteps, prior, recipe.noise_above) for z in trajectories]
        noise = {t: _mixed_channels([moments[t] for moments in found], shares) for t in found[0]}
    describe = recipe.descriptor
    return StyleBank(
        bank_digest(pictures, shares, recipe, model_digest),
        tuple(Banked(z[:, 0], share) for z, share in zip(trajectories, shares, strict=True)),
        mixed_statistics([latent_statistics(z0) for z0 in cleans], shares),
        noise,
        None if describe is None else pooled_descriptor(describe, pictures, shares),
        fit_previewer(pictures[0], prior, recipe.preview) if recipe.preview else None,
        None if recipe.image_prompt is None else recipe.image_prompt.tokens(pictures, shares),
    )


def bank_digest(
    pictures: Sequence[Tensor], shares: Sequence[float], recipe: BankRecipe, model_digest: str
) -> str:
    """SHA-256 of the pictures' values and of everything else that a bank depends on."""
    found = hashlib.sha256()
    facts = {
        "model": model_digest,
        "timesteps": recipe.timesteps,
        "iterations": recipe.iterations,
        "noise_above": recipe.noise_above,
        "preview": recipe.preview,
        "descriptor": None if recipe.descriptor is None else type(recipe.descriptor).__name__,
        "image_prompt": None if recipe.image_prompt is None else str(recipe.image_prompt.folder),
        "references": [[list(p.shape), share] for p, share in zip(pictures, shares, strict=True)],
    }
    found.update(json.dumps(facts, sort_keys=True).encode())
    for picture in pictures:
        found.update(picture.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def mixed_statistics(parts: Sequence[LatentStatistics], shares: Sequence[float]) -> LatentStatistics:
    """Mean and covariance of the mixture with the given shares, which sum to one."""
    mean = sum(share * part.mean for part, share in zip(parts, shares, strict=True))
    second = sum(
        share * (part.covariance + torch.outer(part.mean, part.mean))
        for part, share in zip(parts, shares, strict=True)
    )
    return LatentStatistics(mean, second - torch.outer(mean, mean))


def _mixed_channels(parts: Sequence[ChannelMoments], shares: Sequence[float]) -> ChannelMoments:
    mean = sum(share * part.mean for part, share in zip(parts, shares, strict=True))
    square = sum(
        share * (part.std.square() + part.mean.square()) for part, share in zip(parts, shares, strict=True)
    )
    return ChannelMoments(mean, (square - mean.square()).clamp_min(0).sqrt())
