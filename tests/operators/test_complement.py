"""LatentComplement: against the Wiener filter that knows the variances, and at both ends of the noise."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from operators.complement import LatentComplement
from operators.models import LatentModel

BLOCK, KEPT = 4, 12
SIZE = 3 * BLOCK * BLOCK


@pytest.fixture(scope="module")
def complement() -> LatentComplement:
    generator = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator))[0]
    return LatentComplement(basis[:, KEPT:].contiguous(), torch.logspace(-2, -4, SIZE - KEPT))


def picture(complement: LatentComplement, scale: float, seed: int) -> Tensor:
    """Gaussian coefficients with the stated variances times ``scale``, outside the latent only."""
    generator = torch.Generator().manual_seed(seed)
    s = torch.randn(1, SIZE - KEPT, 64, 64, generator=generator)
    s = s * (scale * complement.variances).sqrt().view(1, -1, 1, 1)
    return F.pixel_shuffle(torch.einsum("dk,bkhw->bdhw", complement.basis, s), BLOCK)


def white(seed: int) -> Tensor:
    return torch.randn(1, 3, 64 * BLOCK, 64 * BLOCK, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("sigma", [0.03, 0.1])
def test_the_error_is_near_that_of_the_filter_that_knows_the_variances(
    complement: LatentComplement, scale: float, sigma: float
) -> None:
    x = picture(complement, scale, 2)
    found = complement.denoise(x + sigma * white(3), torch.zeros_like(x), sigma)
    v = scale * complement.variances
    # Noise inside the latent is no business of the complement: both errors count components outside only.
    best = float((v * sigma**2 / (v + sigma**2)).sum()) / SIZE
    nothing = float(v.sum()) / SIZE
    error = float((found - x).square().mean())
    assert best * 0.95 < error < best + 0.12 * (nothing - best) + 0.02 * best


def test_without_signal_nearly_nothing_of_the_noise_comes_through(complement: LatentComplement) -> None:
    sigma = 0.1
    estimate = torch.zeros(1, 3, 256, 256)
    found = complement.denoise(sigma * white(4), estimate, sigma)
    assert float(found.square().mean()) < 0.001 * sigma**2


def test_nearly_without_noise_everything_outside_the_latent_comes_through(
    complement: LatentComplement,
) -> None:
    x = picture(complement, 1.0, 5)
    found = complement.denoise(x, torch.zeros_like(x), 1e-4)
    torch.testing.assert_close(found, x, atol=1e-3, rtol=0)


def test_what_lies_inside_the_latent_is_left_to_the_estimate(complement: LatentComplement) -> None:
    estimate = picture(complement, 1.0, 6)
    basis = torch.linalg.svd(complement.basis, full_matrices=True)[0][:, SIZE - KEPT :]
    inside = F.pixel_shuffle(torch.einsum("dk,bkhw->bdhw", basis, torch.ones(1, KEPT, 64, 64)), BLOCK)
    found = complement.denoise(estimate + inside, estimate, 0.1)
    torch.testing.assert_close(found, estimate, atol=1e-4, rtol=0)


def test_rows_do_not_depend_on_each_other(complement: LatentComplement) -> None:
    pair = torch.cat([picture(complement, 1.0, 7), picture(complement, 9.0, 8)]) + 0.1 * white(9)
    both = complement.denoise(pair, torch.zeros_like(pair), 0.1)
    alone = complement.denoise(pair[1:], torch.zeros_like(pair[1:]), 0.1)
    torch.testing.assert_close(both[1:], alone)


def test_the_embedded_model_knows_its_complement_and_it_completes_the_basis() -> None:
    model = LatentModel.from_pretrained("embedded")
    assert model.complement is not None
    assert model.complement.basis.shape == (48, 36)
    gram = model.complement.basis.T @ model.complement.basis
    torch.testing.assert_close(gram, torch.eye(36), atol=1e-5, rtol=0)
