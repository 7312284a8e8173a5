"""What corrupts a measurement: y drawn around A x, on the [-1, 1] range of the solvers.

Every model has ``sigma``, a representative standard deviation on [-1, 1]; ``unit_sigma``, the same on the
[0, 1] range of job files and papers; ``variance(y)``, the variance of each entry given the measurement;
``sample(clean, keys)``, one keyed draw per row; and ``nll(clean, y)`` [B], the negative log-likelihood in
nats up to a constant that depends on neither argument.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from operators.errors import OperatorError
from operators.noise import keyed_generator

Key = tuple[int | str, ...]

# Rounding to 8 bits on [-1, 1]: the smallest noise that is assumed anywhere.
MINIMAL_NOISE = 2.0 / 255.0 / math.sqrt(12.0)


class NoiseModel(Protocol):
    """The contract in the module's docstring."""

    @property
    def sigma(self) -> float: ...

    @property
    def unit_sigma(self) -> float: ...

    def variance(self, y: Tensor) -> Tensor: ...

    def sample(self, clean: Tensor, keys: Sequence[Key]) -> Tensor: ...

    def nll(self, clean: Tensor, y: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class GaussianNoise:
    """y = A x + sigma n, n ~ N(0, I); ``sigma`` on [-1, 1], twice the figure on [0, 1]."""

    sigma: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.sigma < 2.0:
            raise OperatorError(
                f"degradation.noise: {self.sigma / 2.0} is outside [0, 1); "
                "it is a standard deviation on [0, 1]"
            )

    @property
    def unit_sigma(self) -> float:
        return self.sigma / 2.0

    def variance(self, y: Tensor) -> Tensor:
        """sigma^2 everywhere, the rounding of 8-bit pictures at least."""
        return torch.full_like(y, max(self.sigma, MINIMAL_NOISE) ** 2)

    def sample(self, clean: Tensor, keys: Sequence[Key]) -> Tensor:
        normal = torch.stack([torch.randn(clean.shape[1:], generator=keyed_generator(*key)) for key in keys])
        return clean + self.sigma * normal.to(clean.dtype).to(clean.device)

    def nll(self, clean: Tensor, y: Tensor) -> Tensor:
        """||clean - y||^2 / (2 sigma^2), sigma as in ``variance``."""
        return ((clean - y).square() / (2.0 * self.variance(y))).flatten(1).sum(1)


@dataclass(frozen=True)
class PoissonNoise:
    """Photon counting: y01 = Poisson(peak A(x)01) / peak, where v01 = (v + 1) / 2.

    ``peak``: expected photons of a white pixel. Poisson noise of rate r on [0, 255] (Chung et al. 2023,
    DPS) is ``peak`` = 255 r.
    """

    peak: float

    def __post_init__(self) -> None:
        if not 1.0 <= self.peak <= 1e6:
            raise OperatorError(
                f"degradation.peak: {self.peak} is outside [1, 1000000]; it is the photon count of white"
            )

    @property
    def sigma(self) -> float:
        """Of a mid-grey pixel."""
        return 2.0 * math.sqrt(0.5 / self.peak)

    @property
    def unit_sigma(self) -> float:
        return self.sigma / 2.0

    def variance(self, y: Tensor) -> Tensor:
        """4 y01 / peak with y01 of one photon at least: the measurement stands in for its own mean."""
        return 4.0 * ((y + 1.0) / 2.0).clamp_min(1.0 / self.peak) / self.peak

    def sample(self, clean: Tensor, keys: Sequence[Key]) -> Tensor:
        rate = (self.peak * (clean.detach().double().cpu() + 1.0) / 2.0).clamp_min(0.0)
        counts = torch.stack(
            [torch.poisson(row, generator=keyed_generator(*key)) for row, key in zip(rate, keys, strict=True)]
        )
        return (2.0 * counts / self.peak - 1.0).to(clean.dtype).to(clean.device)

    def nll(self, clean: Tensor, y: Tensor) -> Tensor:
        """Exact: lambda - k log(lambda), lambda held above a thousandth of a photon."""
        rate = (self.peak * (clean + 1.0) / 2.0).clamp_min(1e-3)
        counts = self.peak * (y + 1.0) / 2.0
        return (rate - counts * rate.log()).flatten(1).sum(1)


@dataclass(frozen=True)
class ImpulseNoise:
    """Salt and pepper: a share ``fraction`` of pixels shows black or white in all channels, half each.

    Other pixels carry Gaussian noise of ``rest`` on [-1, 1]. The likelihood takes 8-bit codes: a code is an
    impulse's with probability fraction / 2 at the extremes, else Gaussian around the clean value; it counts
    entries rather than pixels (our reading, which keeps it factorised).
    """

    fraction: float
    rest: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.fraction <= 0.9:
            raise OperatorError(
                f"degradation.fraction: {self.fraction} is outside (0, 0.9]; it is the share of pixels lost"
            )

    @property
    def sigma(self) -> float:
        """Of the pixels that were not hit."""
        return self.rest

    @property
    def unit_sigma(self) -> float:
        return self.rest / 2.0

    def variance(self, y: Tensor) -> Tensor:
        """Of the pixels that were not hit; which ones were is the operator's business."""
        return torch.full_like(y, max(self.rest, MINIMAL_NOISE) ** 2)

    def sample(self, clean: Tensor, keys: Sequence[Key]) -> Tensor:
        rows = GaussianNoise(self.rest).sample(clean, [(*key, "rest") for key in keys])
        places = (1, *clean.shape[2:])
        draw = torch.stack([torch.rand(places, generator=keyed_generator(*key, "hit")) for key in keys])
        draw = draw.to(clean.device)
        half = self.fraction / 2.0
        pepper = torch.where(draw < half, -torch.ones_like(rows), rows)
        return torch.where((draw >= half) & (draw < self.fraction), torch.ones_like(rows), pepper)

    def nll(self, clean: Tensor, y: Tensor) -> Tensor:
        sigma = max(self.rest, MINIMAL_NOISE)
        cell = 2.0 / 255.0 / (sigma * math.sqrt(2.0 * math.pi))
        kept = math.log((1.0 - self.fraction) * cell) - ((clean - y) / sigma).square() / 2.0
        extreme = y.abs() >= 1.0 - 1.0 / 255.0
        hit = torch.where(extreme, math.log(self.fraction / 2.0), -torch.inf).to(kept.dtype)
        return -torch.logaddexp(kept, hit).flatten(1).sum(1)


@dataclass(frozen=True)
class QuantisationNoise:
    """Rounding to ``levels`` equidistant values on [-1, 1]: y is known to half a step."""

    levels: int

    def __post_init__(self) -> None:
        if self.levels < 2:
            raise OperatorError(f"degradation.levels: {self.levels} is not above one; 256 is 8 bits")

    @property
    def step(self) -> float:
        return 2.0 / (self.levels - 1)

    @property
    def sigma(self) -> float:
        """Of an error uniform over one step."""
        return self.step / math.sqrt(12.0)

    @property
    def unit_sigma(self) -> float:
        return self.sigma / 2.0

    def variance(self, y: Tensor) -> Tensor:
        return torch.full_like(y, self.sigma**2)

    def sample(self, clean: Tensor, keys: Sequence[Key]) -> Tensor:
        """Rounding has no chance in it; ``keys`` are not read."""
        return ((clean + 1.0) / self.step).round().clamp(0, self.levels - 1) * self.step - 1.0

    def nll(self, clean: Tensor, y: Tensor) -> Tensor:
        """Zero inside the cell, infinite outside."""
        outside = ((clean - y).abs() > self.step / 2.0 * (1.0 + 1e-6)).flatten(1).any(1)
        return torch.where(outside, torch.inf, 0.0).to(clean.dtype)
