"""A prior with fused estimates: what it leaves alone, what it pulls, and mirrors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from operators.correspondence.fused_prior import LatentFusion, mirrored_flow
from operators.correspondence.fusion import warped
from operators.flow.interval import ToEnds
from operators.flow.motion import Motion
from operators.solvers.base import Prediction
from operators.warped_noise import Moved

SHAPE = (4, 6, 7)


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class EchoPrior:
    """Predicts its input as clean estimate and three times that as noise."""

    alphas_cumprod = torch.linspace(0.99, 0.01, 1000)
    final_alpha_cumprod = torch.tensor(1.0)
    noise_gain = 0.5
    complement = None

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return z - 1

    def predict(self, z: torch.Tensor, t: int) -> Prediction:
        return Prediction(z, 3 * z)


def motion(seed: int) -> Motion:
    generator = np.random.default_rng(seed)
    flow = generator.uniform(-2, 2, (*SHAPE[1:], 2)).astype(np.float32)
    return Motion(flow, generator.random(SHAPE[1:]) > 0.3)


MOVED = {n: Moved((0, 4), ToEnds(motion(n), motion(n + 10))) for n in (1, 2, 3)}
KNOTS = {0: draw(1, *SHAPE, seed=20), 4: draw(1, *SHAPE, seed=24)}


@pytest.mark.parametrize("axes", [(), (2,), (3,), (2, 3)])
def test_a_mirrored_warp_is_the_warp_of_mirror_images(axes: tuple[int, ...]) -> None:
    z, flow = draw(1, *SHAPE, seed=1), 2 * draw(1, 2, *SHAPE[1:], seed=2)
    torch.testing.assert_close(
        warped(z.flip(axes), mirrored_flow(flow, axes)), warped(z, flow).flip(axes), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("axes", [(2,), (3,), (2, 3)])
def test_fusion_of_mirror_images_is_the_mirrored_fusion(axes: tuple[int, ...]) -> None:
    z, fusion = draw(1, *SHAPE, seed=5), LatentFusion(MOVED, 0.5)
    upright = fusion.over(EchoPrior(), (1,), KNOTS.__getitem__, ()).predict(z, 500)
    turned = fusion.over(EchoPrior(), (1,), lambda n: KNOTS[n].flip(axes), axes).predict(z.flip(axes), 500)
    torch.testing.assert_close(turned.z0, upright.z0.flip(axes), atol=1e-5, rtol=1e-5)


def test_noise_and_the_rest_of_the_prior_are_as_they_were() -> None:
    prior = LatentFusion(MOVED, 0.5).over(EchoPrior(), (1,), KNOTS.__getitem__, ())
    z = draw(1, *SHAPE, seed=5)
    found = prior.predict(z, 500)
    assert torch.equal(found.eps, 3 * z)
    assert (found.z0 - z).abs().max() > 0.1
    assert torch.equal(prior.encode(z), z + 1)
    assert torch.equal(prior.decode(z), z - 1)
    assert prior.noise_gain == 0.5
    assert torch.equal(prior.alphas_cumprod, EchoPrior.alphas_cumprod)


def test_strength_zero_changes_nothing() -> None:
    z = draw(1, *SHAPE, seed=5)
    prior = LatentFusion(MOVED, 0.0).over(EchoPrior(), (2,), KNOTS.__getitem__, ())
    assert torch.equal(prior.predict(z, 500).z0, z)


def test_rows_are_fused_as_if_each_were_alone() -> None:
    z, fusion = draw(3, *SHAPE, seed=5), LatentFusion(MOVED, 0.7)
    together = fusion.over(EchoPrior(), (1, 2, 3), KNOTS.__getitem__, ()).predict(z, 500).z0
    for row, ordinal in enumerate((1, 2, 3)):
        alone = fusion.over(EchoPrior(), (ordinal,), KNOTS.__getitem__, ()).predict(z[row : row + 1], 500).z0
        assert torch.equal(together[row : row + 1], alone)


def test_gradients_pass_where_the_frame_keeps_a_part_of_its_own() -> None:
    z = draw(1, *SHAPE, seed=5).requires_grad_(True)
    prior = LatentFusion(MOVED, 0.5).over(EchoPrior(), (2,), KNOTS.__getitem__, ())
    prior.predict(z, 500).z0.sum().backward()
    assert z.grad is not None
    assert z.grad.min() >= 0.5 - 1e-6
    assert z.grad.max() <= 1.0 + 1e-6
