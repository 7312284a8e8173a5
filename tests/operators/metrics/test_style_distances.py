"""Gram, Lab and gradient distances: what they see and what they do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from operators.metrics.encoder_features import encoder_features
from operators.metrics.gradient_ssim import gradient_ssim
from operators.metrics.gram import gram_distance, gram_matrices
from operators.metrics.lab_histogram import BINS, chi_square, lab_histogram, mixed_histogram
from operators.models import LatentModel
from tests.support.moving_pictures import codes, texture


@pytest.fixture(scope="module")
def model() -> LatentModel:
    return LatentModel.from_pretrained("embedded", precision="fp32")


def features(*sizes: tuple[int, int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(2, channels, side, side, generator=generator) for channels, side in sizes]


def test_a_gram_matrix_is_the_second_moment_of_features() -> None:
    (level,) = features((3, 5))
    (gram,) = gram_matrices([level])
    assert gram.shape == (3, 3)
    assert float(gram[0, 1]) == pytest.approx(float((level[:, 0] * level[:, 1]).mean()), abs=1e-6)


def test_cells_that_trade_places_do_not_change_the_gram_distance_and_scaling_does_in_closed_form() -> None:
    levels = features((4, 6), (8, 3))
    order = torch.randperm(36, generator=torch.Generator().manual_seed(1))
    shuffled = [levels[0].flatten(2)[:, :, order].reshape_as(levels[0]), levels[1].flip(3)]
    own = gram_matrices(levels)
    assert gram_distance(own, gram_matrices(shuffled)) < 1e-12
    expected = sum(float((3 * g).square().sum()) / g.shape[0] ** 2 for g in own)
    assert gram_distance(own, gram_matrices([2 * level for level in levels])) == pytest.approx(expected)


def test_features_come_from_every_level_of_the_models_own_encoder(model: LatentModel) -> None:
    x = torch.from_numpy(texture(32, 48)).permute(2, 0, 1)[None].float() * 2 - 1
    found = encoder_features(model, x)
    widths = model.vae.config.block_out_channels
    assert [level.shape[1] for level in found] == [widths[0], *widths]
    assert found[-1].shape[2:] == (8, 12)
    # The last level is what the encoder goes on with.
    encoder = model.vae.encoder
    seen: list[torch.Tensor] = []
    hook = encoder.mid_block.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    model.encode(x)
    hook.remove()
    assert torch.equal(seen[0], found[-1])


def test_a_picture_is_nearer_in_style_to_another_part_of_itself_than_to_another_picture(
    model: LatentModel,
) -> None:
    fine, coarse = texture(64, 256, shortest=4.0), texture(64, 256, seed=3, shortest=40.0)
    parts = [fine[:, :128], fine[:, 128:], coarse[:, :128]]
    grams = [
        gram_matrices(encoder_features(model, torch.from_numpy(p).permute(2, 0, 1)[None].float() * 2 - 1))
        for p in parts
    ]
    assert gram_distance(grams[0], grams[0]) == 0
    assert gram_distance(grams[0], grams[1]) < 0.5 * gram_distance(grams[0], grams[2])


def test_a_lab_histogram_counts_pixels_and_not_places() -> None:
    picture = codes(texture(48, 64))
    histogram = lab_histogram(picture)
    assert histogram.shape == BINS
    assert histogram.sum() == pytest.approx(1.0)
    assert np.array_equal(histogram, lab_histogram(picture[::-1, ::-1]))
    assert chi_square(histogram, lab_histogram(picture[:, ::-1])) == 0


def test_chi_square_runs_from_equal_to_disjoint_and_is_symmetric() -> None:
    red, green = (np.zeros((8, 8, 3), np.uint8) for _ in range(2))
    red[..., 0] = green[..., 1] = 255
    mixed = np.concatenate([red[:4], green[:4]])
    a, b, half = (lab_histogram(picture) for picture in (red, green, mixed))
    assert chi_square(a, b) == pytest.approx(1.0)
    # 0.5 ((1/2)^2 / (3/2) + (1/2)^2 / (1/2)) = 1/3.
    assert chi_square(a, half) == pytest.approx(1 / 3)
    assert chi_square(half, a) == chi_square(a, half)


def test_white_and_saturated_colours_fall_inside_the_bins() -> None:
    corners = np.array(np.meshgrid([0, 255], [0, 255], [0, 255])).reshape(3, 8).T.astype(np.uint8)
    assert lab_histogram(corners.reshape(2, 4, 3)).sum() == pytest.approx(1.0)
    assert (lab_histogram(corners.reshape(2, 4, 3)) > 0).sum() == 8


def test_gradients_do_not_see_brightness_or_inversion_and_see_blur_and_another_drawing() -> None:
    import cv2

    picture = (0.2 + 0.5 * texture(64, 80)).astype(np.float32)
    assert gradient_ssim(picture, picture) == pytest.approx(1.0)
    assert gradient_ssim(picture + 0.2, picture) == pytest.approx(1.0, abs=1e-5)
    assert gradient_ssim(1 - picture, picture) == pytest.approx(1.0, abs=1e-5)
    blurred = [gradient_ssim(cv2.GaussianBlur(picture, (0, 0), s), picture) for s in (1.0, 2.0, 4.0)]
    assert 1 > blurred[0] > blurred[1] > blurred[2]
    other = (0.2 + 0.5 * texture(64, 80, seed=5)).astype(np.float32)
    assert gradient_ssim(other, picture) < 0.6


def test_a_mixed_histogram_is_between_those_of_its_pictures_by_their_weights() -> None:
    dark, light = np.full((4, 4, 3), 10, np.uint8), np.full((4, 4, 3), 240, np.uint8)
    assert chi_square(mixed_histogram([dark], [1.0]), lab_histogram(dark)) == 0.0
    mixed = mixed_histogram([dark, light], [0.75, 0.25])
    assert mixed.sum() == pytest.approx(1.0)
    assert chi_square(mixed, lab_histogram(dark)) < chi_square(mixed, lab_histogram(light)) < 1.0
