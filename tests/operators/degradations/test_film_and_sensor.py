"""Damage of film and sensors: scratches, dust, stripes, impulses, photons, lenses, lost phases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from operators.degradations.colorization import Colorization
from operators.degradations.destriping import Destriping
from operators.degradations.film_damage import SCRATCH_FRAMES, dust_masks, scratch_masks
from operators.degradations.inpainting import Inpainting
from operators.degradations.lens_blur import LensBlur, to_codes, to_light
from operators.degradations.noise_models import ImpulseNoise
from operators.degradations.phase_retrieval import PhaseRetrieval
from operators.degradations.salt_and_pepper import SaltAndPepper, impulses
from operators.degradations.shot_noise import ShotNoise
from operators.degradations.video_inpainting import VideoInpainting
from operators.errors import OperatorError
from operators.luma import LUMA_WEIGHTS


def smooth(height: int = 40, width: int = 48) -> Tensor:
    rows = torch.linspace(0, 3, height, dtype=torch.float64)[:, None]
    columns = torch.linspace(0, 5, width, dtype=torch.float64)
    return torch.stack([0.6 * torch.sin(rows + columns * (1 + c / 3)) for c in range(3)])[None]


@pytest.mark.parametrize("make", [scratch_masks, dust_masks])
def test_damage_belongs_to_its_frame_and_not_to_the_clip(make) -> None:
    whole = make(range(30), 60, 80, 3, (5, "reel"))
    assert whole.dtype == np.uint8
    assert np.array_equal(make([7, 29], 60, 80, 3, (5, "reel")), whole[[7, 29]])
    assert not np.array_equal(make([7], 60, 80, 3, (6, "reel"))[0], whole[7])
    share = 1.0 - whole.mean()
    assert 0.001 < share < 0.15
    assert make(range(2), 60, 80, 0, (5,)).all()


def test_a_scratch_stays_near_its_place_while_dust_jumps() -> None:
    scratches = scratch_masks(range(SCRATCH_FRAMES), 60, 400, 1, (1,))
    columns = [np.flatnonzero((mask == 0).any(0)).mean() for mask in scratches[:8]]
    assert max(np.abs(np.diff(columns))) < 2.5
    assert all((mask == 0).any(1).sum() >= 30 for mask in scratches[:8])
    dust = dust_masks(range(8), 60, 400, 1, (1,))
    places = [np.argwhere(mask == 0).mean(0) for mask in dust]
    assert np.abs(np.diff(places, axis=0)).max() > 20.0


def test_damaged_film_is_inpainted_frame_by_frame_as_by_a_mask_of_its_own() -> None:
    masks = scratch_masks(range(3), 40, 48, 2, (2,)) * dust_masks(range(3), 40, 48, 3, (2,))
    clip = smooth().expand(3, -1, -1, -1).float()
    operator = VideoInpainting(masks)
    restored = operator.classical(torch.where(torch.from_numpy(masks)[:, None] > 0, clip, 1.0))
    for frame, mask in enumerate(masks):
        alone = Inpainting(mask).classical(clip[frame : frame + 1])
        torch.testing.assert_close(restored[frame : frame + 1], alone)
    assert (restored - clip).abs().mean() < 0.02


def test_a_frame_without_any_measured_pixel_is_left_black_and_one_without_holes_untouched() -> None:
    masks = np.stack([np.zeros((8, 8), np.uint8), np.ones((8, 8), np.uint8)])
    clip = torch.rand(2, 3, 8, 8)
    restored = VideoInpainting(masks).classical(clip)
    assert torch.equal(restored[1], clip[1])
    assert torch.equal(restored[0], torch.zeros(3, 8, 8))


@pytest.mark.parametrize("orientation", ["horizontal", "vertical"])
def test_stripes_of_short_period_vanish_and_slow_shading_stays(orientation) -> None:
    operator = Destriping(40, 48, orientation, 16.0)
    lines = 40 if orientation == "horizontal" else 48
    k = torch.arange(lines, dtype=torch.float64) + 0.5
    fast, slow = (torch.cos(math.pi / lines * k * number) for number in (2 * lines // 16 + 1, 2))
    view = (1, 1, lines, 1) if orientation == "horizontal" else (1, 1, 1, lines)
    colours = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64).view(1, 3, 1, 1)
    x = smooth()
    striped = x + colours * fast.view(view)
    torch.testing.assert_close(operator.restrict(striped), operator.apply(x), rtol=0, atol=1e-12)
    shaded = colours * slow.view(view).expand(1, 1, 40, 48)
    torch.testing.assert_close(operator.apply(shaded), shaded, rtol=0, atol=1e-12)


def test_destriping_is_an_orthogonal_projector() -> None:
    operator = Destriping(20, 24, "horizontal", 8.0)
    x = torch.randn(1, 3, 20, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    once = operator.apply(x)
    torch.testing.assert_close(operator.apply(once), once, rtol=0, atol=1e-12)
    assert float(((x - once) * once).sum()) == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("fraction", [0.02, 0.2])
def test_impulses_are_found_and_replaced_and_dark_areas_left_alone(fraction: float) -> None:
    clean = smooth()
    clean[:, :, :12, :12] = -1.0
    y = ImpulseNoise(fraction).sample(clean, [(4, "film")])
    hit = (y != clean).any(1, keepdim=True)
    found = impulses(y, fraction)
    assert float((found & hit).sum() / hit.sum()) > 0.95
    # Corners of the black area may be taken for pepper when salt has hit their neighbours.
    assert (found & ~hit).sum() <= 0.002 * hit.numel()
    restored = SaltAndPepper(40, 48, fraction).classical(y)
    assert (restored - clean).abs().mean() < 0.1 * (y - clean).abs().mean()


def test_the_prox_of_salt_and_pepper_ignores_what_was_hit() -> None:
    operator, x = SaltAndPepper(40, 48, 0.1), smooth().flip(2)
    y = ImpulseNoise(0.1).sample(smooth(), [(5,)])
    u, hit = operator.prox(x, y, 3.0), impulses(y, 0.1).expand_as(x)
    assert torch.equal(u[hit], x[hit])
    torch.testing.assert_close(u[~hit], (0.25 * x + 0.75 * y)[~hit])


def test_the_prox_of_shot_noise_trusts_dark_pixels_more() -> None:
    operator = ShotNoise(1, 2, 100.0)
    y = torch.tensor([-0.9, 0.9], dtype=torch.float64).expand(1, 3, 1, 2)
    x = torch.zeros_like(y)
    u = operator.prox(x, y, 2.0)
    weight = 2.0 * operator.noise_model.sigma**2 / operator.noise_model.variance(y)
    torch.testing.assert_close(weight * (u - y) + u - x, torch.zeros_like(u), rtol=0, atol=1e-12)
    kept = (u / y)[0, 0, 0]
    assert kept[0] > kept[1]
    assert float(weight[0, 0, 0, 0]) == pytest.approx(2.0 * 0.5 / 0.05)


def test_shot_noise_weighs_mid_grey_as_white_noise_of_its_level() -> None:
    operator = ShotNoise(1, 1, 100.0)
    y, x = torch.zeros(1, 3, 1, 1, dtype=torch.float64), torch.ones(1, 3, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(operator.prox(x, y, 3.0), 0.25 * x)


def test_colorization_sees_luma_and_accepts_grey_video_of_three_channels() -> None:
    operator, x = Colorization(4, 5), torch.rand(2, 3, 4, 5, dtype=torch.float64)
    grey = operator.apply(x)
    torch.testing.assert_close(grey[:, 0], sum(w * x[:, c] for c, w in enumerate(LUMA_WEIGHTS)))
    torch.testing.assert_close(operator.restrict(grey.expand(-1, 3, -1, -1)), grey)
    by_video, by_channel = operator.classical(grey.expand(-1, 3, -1, -1)), operator.classical(grey)
    torch.testing.assert_close(by_video[:, 0], by_channel[:, 2])
    with pytest.raises(OperatorError, match=r"degradation\.weights"):
        Colorization(4, 5, (0.5, 0.5, 0.5))


def test_codes_and_light_are_inverse_to_each_other_beyond_the_range_too() -> None:
    x = torch.linspace(-1.4, 1.4, 401, dtype=torch.float64)
    torch.testing.assert_close(to_codes(to_light(x)), x, rtol=0, atol=1e-6)
    assert (to_light(x).diff() > 0).all()
    assert float(to_light(torch.tensor(0.0))) == pytest.approx(0.2140, abs=1e-4)


def test_a_lens_blurs_its_corners_more_and_keeps_constants() -> None:
    operator = LensBlur(41, 41, 0.5, 2.0)
    grey = torch.full((1, 3, 41, 41), -0.2, dtype=torch.float64)
    torch.testing.assert_close(operator.apply(grey), grey, rtol=0, atol=1e-6)
    points = torch.full((1, 3, 41, 41), -0.5, dtype=torch.float64)
    points[..., 20, 20] = points[..., 6, 6] = 0.5
    blurred = operator.apply(points)
    assert blurred[0, 0, 20, 20] > blurred[0, 0, 6, 6] + 0.1


def test_magnitudes_do_not_change_when_a_picture_is_turned_upside_down() -> None:
    operator = PhaseRetrieval(12, 10)
    assert operator.measured_shape == (3, 18, 14)
    x = torch.rand(1, 3, 12, 10, dtype=torch.float64) * 2 - 1
    torch.testing.assert_close(operator.apply(x), operator.apply(x.flip((2, 3))))
    assert (operator.apply(x) - operator.apply(x.flip(2))).abs().max() > 1e-2
    energy = ((x + 1) / 2).square().sum()
    torch.testing.assert_close(operator.apply(x).square().sum(), energy)


def test_the_padding_of_phase_retrieval_is_that_of_the_paper() -> None:
    assert PhaseRetrieval(256, 256, 2.0).measured_shape == (3, 384, 384)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Destriping(8, 8, "diagonal"), r"degradation\.orientation"),
        (lambda: Destriping(8, 8, "horizontal", 17.0), r"degradation\.longest_period"),
        (lambda: scratch_masks([0], 8, 8, -1, (0,)), r"degradation\.count"),
        (lambda: VideoInpainting(np.ones((8, 8), np.uint8)), r"one grey picture per frame"),
        (lambda: PhaseRetrieval(8, 8, 9.0), r"degradation\.oversample"),
    ],
)
def test_impossible_damage_is_refused_by_field(make, named: str) -> None:
    with pytest.raises(OperatorError, match=named):
        make()
