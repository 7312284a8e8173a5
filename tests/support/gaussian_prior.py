"""A latent prior whose posterior is known in closed form.

x = mean + basis diag(sqrt(variances)) w, w ~ N(0, I), over flattened pixels, with an autoencoder that
is a rotation: E(x) = R x, D(z) = R^T z. Every solver runs on it unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from operators.closed_form.mixture import stable_diffusion_alphas
from operators.complement import LatentComplement
from operators.degradations.base import ForwardOperator
from operators.solvers.base import Prediction


@dataclass
class GaussianPrior:
    """N(mean, covariance) over pictures [B, 3, height, width]; float64.

    ``rotation`` (d, d) orthonormal takes flattened pixels to latents [B, 3, height, width].
    """

    height: int
    width: int
    mean: Tensor
    covariance: Tensor
    rotation: Tensor
    alphas_cumprod: Tensor = field(default_factory=stable_diffusion_alphas)
    noise_gain: float = 1.0
    complement: LatentComplement | None = None

    @property
    def final_alpha_cumprod(self) -> Tensor:
        return self.alphas_cumprod[0]

    def encode(self, x: Tensor) -> Tensor:
        return self._linear(x, self.rotation)

    def decode(self, z: Tensor) -> Tensor:
        return self._linear(z, self.rotation.T)

    def predict(self, z: Tensor, t: int) -> Prediction:
        """Exact Tweedie mean: z0 = m + sqrt(ab) C (ab C + (1 - ab) I)^{-1} (z - sqrt(ab) m)."""
        ab = self.alphas_cumprod[t]
        mean, covariance = self.rotation @ self.mean, self.rotation @ self.covariance @ self.rotation.T
        eye = torch.eye(len(mean), dtype=mean.dtype)
        gain = ab.sqrt() * covariance @ torch.linalg.inv(ab * covariance + (1.0 - ab) * eye)
        flat = mean + (z.flatten(1) - ab.sqrt() * mean) @ gain.T
        z0 = flat.view_as(z)
        return Prediction(z0=z0, eps=(z - ab.sqrt() * z0) / (1.0 - ab).sqrt())

    def posterior_mean(self, operator: ForwardOperator, y: Tensor, sigma_y: float) -> Tensor:
        """E[x | y] for y = A x + sigma_y n."""
        matrix = dense_matrix(operator)
        information = matrix @ self.covariance @ matrix.T + sigma_y**2 * torch.eye(len(matrix)).double()
        gain = self.covariance @ matrix.T @ torch.linalg.inv(information)
        flat = self.mean + (y.flatten(1) - matrix @ self.mean) @ gain.T
        return flat.view(-1, 3, self.height, self.width)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` pictures of the prior."""
        root = torch.linalg.cholesky(self.covariance)
        white = torch.randn(count, len(self.mean), dtype=torch.float64, generator=generator)
        return (self.mean + white @ root.T).view(-1, 3, self.height, self.width)

    def _linear(self, x: Tensor, matrix: Tensor) -> Tensor:
        return (x.flatten(1) @ matrix.T).view_as(x)


def smooth_gaussian_prior(height: int, width: int, generator: torch.Generator) -> GaussianPrior:
    """Pictures whose pixels correlate as 0.8^distance within a channel; random rotation as the VAE."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()], 1).double()
    correlation = 0.25 * 0.8 ** torch.cdist(places, places)
    covariance = torch.block_diag(correlation, correlation, correlation)
    d = 3 * height * width
    rotation = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=generator)).Q
    mean = 0.2 * torch.randn(d, dtype=torch.float64, generator=generator)
    return GaussianPrior(height, width, mean, covariance, rotation)


def dense_matrix(operator: ForwardOperator) -> Tensor:
    """A as a float64 matrix, one column per pixel of x."""
    d = 3 * operator.height * operator.width
    eye = torch.eye(d, dtype=torch.float64).view(d, 3, operator.height, operator.width)
    return operator.apply(eye).flatten(1).T
