"""Mixtures of Gaussians over vectors as latent priors, with their exact posteriors.

Latents are [B, d, 1, 1] in float64, the autoencoder is a scaling: every solver runs on them unchanged.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import torch
from torch import Tensor

from operators.degradations.dense import DenseOperator
from operators.noise import keyed_normal
from operators.solvers.base import Prediction
from operators.solvers.levels import level_of_alpha


def stable_diffusion_alphas() -> Tensor:
    """alpha-bar of the "scaled_linear" schedule of Stable Diffusion, [1000], float64."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    return (1.0 - betas).cumprod(0)


@dataclass
class VectorMixture:
    """sum_k weights_k N(means_k, covariances_k); with one component a Gaussian.

    ``means`` [K, d], ``covariances`` [K, d, d]. ``sampling``: predict returns a draw of p(z0 | z) in place of
    its mean, an exact consistency model. ``pixel_scale``: x = pixel_scale z, for solvers that clip x.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    alphas_cumprod: Tensor = field(default_factory=stable_diffusion_alphas)
    kind: str = "diffusion"
    sampling: bool = False
    pixel_scale: float = 1.0
    noise_gain: float = 1.0
    complement: None = None
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(11))

    @property
    def final_alpha_cumprod(self) -> Tensor:
        return self.alphas_cumprod[0]

    def encode(self, x: Tensor) -> Tensor:
        return x / self.pixel_scale

    def decode(self, z: Tensor) -> Tensor:
        return z * self.pixel_scale

    def predict(self, z: Tensor, t: int) -> Prediction:
        at = level_of_alpha(self, self.alphas_cumprod[t])
        flat = z.flatten(1)
        means, logs = [], []
        for weight, mean, (values, basis) in zip(self.weights, self.means, self._spectra, strict=True):
            marginal = at.signal**2 * values + at.noise**2
            off = (flat - at.signal * mean) @ basis
            means.append(mean + (off * (at.signal * values / marginal)) @ basis.T)
            logs.append(weight.log() - 0.5 * (off.square() / marginal).sum(1) - 0.5 * marginal.log().sum())
        share = torch.softmax(torch.stack(logs, 1), 1)
        z0 = (share[:, :, None] * torch.stack(means, 1)).sum(1)
        if self.sampling:
            z0 = self._draw_given(means, share, float(at.signal), float(at.noise))
        z0 = z0.view_as(z)
        return Prediction(z0, (z - at.signal * z0) / at.noise)

    @functools.cached_property
    def _spectra(self) -> list[tuple[Tensor, Tensor]]:
        """Eigenvalues and eigenvectors of every covariance."""
        return [tuple(torch.linalg.eigh(covariance)) for covariance in self.covariances]

    def draw(self, count: int) -> Tensor:
        """``count`` vectors of the prior [count, d, 1, 1]."""
        which = torch.multinomial(self.weights, count, replacement=True, generator=self.generator)
        roots = torch.linalg.cholesky(self.covariances)
        x = self.means[which] + torch.einsum("bij,bj->bi", roots[which], self._white(count))
        return x[:, :, None, None]

    def posterior(self, operator: DenseOperator, y: Tensor, sigma: float) -> VectorMixture:
        """p(x | y) for one measurement y [m]: again a mixture."""
        A, logs, means, covariances = operator.matrix, [], [], []
        noise = sigma**2 * torch.eye(len(A), dtype=torch.float64)
        for weight, mean, covariance in zip(self.weights, self.means, self.covariances, strict=True):
            marginal = A @ covariance @ A.T + noise
            gain = covariance @ A.T @ torch.linalg.inv(marginal)
            off = y - A @ mean
            means.append(mean + gain @ off)
            covariances.append(covariance - gain @ A @ covariance)
            logs.append(
                weight.log() - 0.5 * off @ torch.linalg.solve(marginal, off) - 0.5 * torch.logdet(marginal)
            )
        share = torch.softmax(torch.stack(logs), 0)
        return VectorMixture(share, torch.stack(means), torch.stack(covariances))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean [d] and covariance [d, d]."""
        mean = (self.weights[:, None] * self.means).sum(0)
        off = self.means - mean
        spread = self.covariances + off[:, :, None] * off[:, None, :]
        return mean, (self.weights[:, None, None] * spread).sum(0)

    def _white(self, count: int) -> Tensor:
        size = (count, self.means.shape[1])
        return torch.randn(size, dtype=torch.float64, generator=self.generator)

    def _draw_given(self, means: list[Tensor], share: Tensor, a: float, b: float) -> Tensor:
        which = torch.multinomial(share, 1, generator=self.generator)[:, 0]
        identity = torch.eye(self.means.shape[1], dtype=torch.float64)
        precision = torch.linalg.inv(self.covariances) + (a / b) ** 2 * identity
        roots = torch.linalg.cholesky(torch.linalg.inv(precision))
        chosen = torch.stack(means, 1)[torch.arange(len(which)), which]
        return chosen + torch.einsum("bij,bj->bi", roots[which], self._white(len(which)))


def gaussian_vector_prior(d: int, seed: int = 4) -> VectorMixture:
    """N(mean, S) with eigenvalues of S between 0.11 and 1.8 in a random basis."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=generator)).Q
    eigenvalues = 0.45 * torch.logspace(-0.6, 0.6, d, dtype=torch.float64)
    mean = 0.5 * torch.randn(1, d, dtype=torch.float64, generator=generator)
    covariance = (basis * eigenvalues) @ basis.T
    return VectorMixture(torch.ones(1, dtype=torch.float64), mean, covariance[None])


def two_modes(d: int, seed: int = 0) -> VectorMixture:
    """Two unequal Gaussians, apart by several of their widths."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(d, dtype=torch.float64, generator=generator)
    direction = direction / direction.norm()
    covariance = 0.15 * torch.eye(d, dtype=torch.float64)
    return VectorMixture(
        torch.tensor([0.35, 0.65], dtype=torch.float64),
        torch.stack([1.2 * direction, -1.2 * direction]),
        torch.stack([covariance, 1.5 * covariance]),
    )


def orthonormal_measurement(d: int, m: int, seed: int = 1) -> DenseOperator:
    """A with A A^T = I, [m, d], in general position."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=generator)).Q[:m]
    return DenseOperator(rows, (d, 1, 1), (m, 1, 1))


@dataclass(frozen=True)
class ChainDraws:
    """Independent draws of float64 for each step and purpose, for many chains at once."""

    seed: int = 0

    def normal(self, like: Tensor, step: int, purpose: str) -> Tensor:
        """Standard normal of the shape of ``like``; the chains of a call share one key."""
        return keyed_normal(tuple(like.shape), "chains", self.seed, step, purpose).to(like)
