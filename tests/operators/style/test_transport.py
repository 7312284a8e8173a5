"""Gaussian optimal transport of latents, against its closed form."""

from __future__ import annotations

import pytest
import torch

from operators.style.transport import (
    LatentStatistics,
    gaussian_distance,
    latent_statistics,
    transport,
    transport_map,
)


def gaussian(seed: int, rows: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(5, 5, generator=generator)
    z = torch.randn(rows, 5, 24, 24, generator=generator)
    return torch.einsum("dc,bchw->bdhw", mix, z) + torch.randn(5, generator=generator)[None, :, None, None]


def test_transported_latents_have_the_statistics_of_the_style() -> None:
    content, style = gaussian(1), gaussian(2)
    wanted = latent_statistics(style)
    found = latent_statistics(transport(content, latent_statistics(content), wanted, 1.0))
    torch.testing.assert_close(found.mean, wanted.mean, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.covariance, wanted.covariance, atol=5e-3, rtol=5e-3)


def test_the_map_is_symmetric_and_positive_as_a_monge_map_must_be() -> None:
    matrix, _ = transport_map(latent_statistics(gaussian(1)), latent_statistics(gaussian(2)))
    torch.testing.assert_close(matrix, matrix.T, atol=1e-8, rtol=1e-8)
    assert torch.linalg.eigvalsh(matrix).min() > 0


def test_diagonal_gaussians_move_channel_by_channel() -> None:
    zero = torch.zeros(2, dtype=torch.float64)
    content = LatentStatistics(zero, torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64)))
    style = LatentStatistics(zero + 1, torch.diag(torch.tensor([9.0, 1.0], dtype=torch.float64)))
    matrix, offset = transport_map(content, style)
    torch.testing.assert_close(
        matrix, torch.diag(torch.tensor([3.0, 0.5], dtype=torch.float64)), atol=1e-3, rtol=1e-3
    )
    torch.testing.assert_close(offset, zero + 1)


def test_equal_statistics_move_nothing_and_weight_zero_is_exact() -> None:
    z = gaussian(3)
    own = latent_statistics(z)
    torch.testing.assert_close(transport(z, own, own, 1.0), z, atol=1e-4, rtol=1e-4)
    assert transport(z, own, latent_statistics(gaussian(4)), 0.0) is z


def test_the_map_of_a_scene_does_not_depend_on_the_frame_it_is_applied_to() -> None:
    content, style = latent_statistics(gaussian(1)), latent_statistics(gaussian(2))
    frames = gaussian(5)
    together = transport(frames, content, style, 0.7)
    alone = transport(frames[1:2], content, style, 0.7)
    assert torch.equal(together[1:2], alone)


def test_the_distance_of_gaussians_is_that_of_means_and_of_the_roots_of_diagonal_covariances() -> None:
    a = LatentStatistics(torch.tensor([1.0, 2.0]).double(), torch.diag(torch.tensor([4.0, 9.0])).double())
    b = LatentStatistics(torch.tensor([4.0, -2.0]).double(), torch.diag(torch.tensor([1.0, 25.0])).double())
    assert gaussian_distance(a, a) == pytest.approx(0.0, abs=1e-9)
    assert gaussian_distance(a, b) == pytest.approx(9 + 16 + 1 + 4, rel=1e-3)
    assert gaussian_distance(a, b) == pytest.approx(gaussian_distance(b, a))
