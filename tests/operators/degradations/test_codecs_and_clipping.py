"""JPEG, coarse quantisation and clipping: what they keep, and that their prox is the best there is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from operators.degradations.clipping import Clipping
from operators.degradations.jpeg import Jpeg, quantisation_table
from operators.degradations.quantisation import Quantisation
from operators.errors import OperatorError


def scene(height: int = 64, width: int = 80) -> Tensor:
    """A smooth coloured picture with an edge, clear of black and white, [1, 3, H, W] on [-1, 1]."""
    rows = torch.linspace(0, 3, height, dtype=torch.float64)[:, None]
    columns = torch.linspace(0, 5, width, dtype=torch.float64)
    waves = [torch.sin(rows * (2 + c) + columns) * torch.cos(columns * (1 + c)) for c in range(3)]
    step = (columns + rows > 4).double() - 0.5
    return torch.stack([0.3 * wave + 0.3 * step for wave in waves])[None]


def libjpeg(x: Tensor, quality: int, sampling: int) -> Tensor:
    """What OpenCV's JPEG makes of the 8-bit picture ``x``."""
    pixels = ((x[0].permute(1, 2, 0) + 1.0) * 127.5).round().to(torch.uint8).numpy()
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), options)
    decoded = np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])
    return torch.from_numpy(decoded).permute(2, 0, 1)[None] / 127.5 - 1.0


@pytest.mark.parametrize("quality", [10, 35, 75, 90])
def test_jpeg_without_subsampling_is_what_libjpeg_makes_up_to_its_rounding(quality: int) -> None:
    x = (scene() * 127.5 + 127.5).round() / 127.5 - 1.0
    ours = Jpeg(64, 80, quality, "4:4:4").apply(x)
    theirs = libjpeg(x, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    # libjpeg rounds its planes before the transform and the picture after it, which flips coefficients
    # that lie between two steps.
    errors = torch.stack([(ours - x).flatten(), (theirs - x).flatten()])
    assert (ours - theirs).abs().mean() * 127.5 < 0.85
    assert torch.corrcoef(errors)[0, 1] > 0.8
    assert errors.std(1)[0] == pytest.approx(float(errors.std(1)[1]), rel=0.1)


def test_jpeg_with_subsampling_has_the_luma_of_libjpeg() -> None:
    x = (scene() * 127.5 + 127.5).round() / 127.5 - 1.0
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64).view(1, 3, 1, 1)
    ours = (weights * Jpeg(64, 80, 40).apply(x)).sum(1)
    theirs = (weights * libjpeg(x, 40, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420)).sum(1)
    assert ((ours - theirs).abs() * 127.5).mean() < 0.6


@pytest.mark.parametrize("chroma", ["4:4:4", "4:2:0"])
def test_compressing_twice_is_compressing_once(chroma) -> None:
    operator = Jpeg(64, 80, 12, chroma)
    y = operator.apply(scene())
    torch.testing.assert_close(operator.apply(y), y, rtol=0, atol=1e-10)
    assert (y - scene()).abs().max() > 0.1


@pytest.mark.parametrize("chroma", ["4:4:4", "4:2:0"])
def test_a_projected_picture_compresses_to_the_measurement_and_consistent_ones_stay(chroma) -> None:
    operator = Jpeg(64, 80, 12, chroma)
    truth = scene()
    y = operator.apply(truth)
    torch.testing.assert_close(operator.project(truth, y), truth, rtol=0, atol=1e-12)
    far = truth + 0.3 * torch.randn(
        truth.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    projected = operator.project(far, y)
    assert (operator.apply(far) - y).abs().max() > 0.1
    # A coefficient on the border of its cell may round either way: look from slightly inside.
    inside = projected + 1e-9 * (y - projected)
    torch.testing.assert_close(operator.apply(inside), y, rtol=0, atol=1e-6)
    assert (projected - truth).norm() < (far - truth).norm()


def test_the_prox_of_jpeg_goes_from_the_picture_to_its_projection() -> None:
    operator = Jpeg(16, 16, 20)
    truth = scene(16, 16)
    y, x = operator.apply(truth), truth.flip(3)
    projected = operator.project(x, y)
    torch.testing.assert_close(operator.prox(x, y, 0.0), x)
    torch.testing.assert_close(operator.prox(x, y, 3.0), 0.25 * x + 0.75 * projected)


def test_jpeg_passes_gradients_straight_through_its_rounding() -> None:
    operator = Jpeg(16, 16, 20, "4:4:4")
    u = torch.randn(1, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(operator.vjp(scene(16, 16), u), u, rtol=0, atol=1e-10)


def test_quality_scales_the_tables_as_libjpeg_does() -> None:
    base = ((16, 200),)
    assert quantisation_table(base, 50).tolist() == [[16, 200]]
    assert quantisation_table(base, 100).tolist() == [[1, 1]]
    assert quantisation_table(base, 10).tolist() == [[80, 255]]
    assert quantisation_table(base, 75).tolist() == [[8, 100]]


def brute_force(operator, x: float, y: float, gamma: float) -> float:
    """Lowest cost of the prox on a fine grid."""
    u = torch.linspace(-4, 4, 400001, dtype=torch.float64)
    return float((0.5 * gamma * (operator.apply(u) - y).square() + 0.5 * (u - x).square()).min())


@pytest.mark.parametrize("gamma", [0.2, 5.0, 500.0])
@pytest.mark.parametrize("y", [-1.0, -0.6, 0.0, 0.95, 1.0, 1.2])
@pytest.mark.parametrize("x", [-1.5, -0.5, -0.2, 0.3, 0.51, 2.0])
def test_the_prox_of_clipping_is_the_global_minimum(x: float, y: float, gamma: float) -> None:
    operator = Clipping(1, 1, 2.0)
    at = torch.full((1, 1, 1, 1), x, dtype=torch.float64)
    u = operator.prox(at, torch.full_like(at, y), gamma)
    cost = float(0.5 * gamma * (operator.apply(u) - y).square() + 0.5 * (u - at).square())
    assert cost <= brute_force(operator, x, y, gamma) + 1e-9


def test_clipping_measures_nothing_beyond_its_range_and_inverts_the_rest() -> None:
    operator = Clipping(2, 2, 2.0)
    x = torch.tensor([-0.9, -0.3, 0.2, 0.8], dtype=torch.float64).expand(1, 3, 1, 4)
    y = operator.apply(x)
    torch.testing.assert_close(y[0, 0, 0], torch.tensor([-1.0, -0.6, 0.4, 1.0], dtype=torch.float64))
    torch.testing.assert_close(operator.pinv(y)[..., 1:3], x[..., 1:3])
    assert torch.equal(
        operator.vjp(x, torch.ones_like(x))[0, 0, 0], torch.tensor([0.0, 2.0, 2.0, 0.0]).double()
    )


def test_quantisation_keeps_pictures_of_its_cell_and_moves_others_to_its_border() -> None:
    operator = Quantisation(1, 3, 5)
    y = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64).expand(1, 3, 1, 3)
    inside = torch.tensor([-1.7, 0.2, 0.8], dtype=torch.float64).expand(1, 3, 1, 3)
    outside = torch.tensor([0.0, -0.9, 0.0], dtype=torch.float64).expand(1, 3, 1, 3)
    assert torch.equal(operator.apply(inside), y)
    assert torch.equal(operator.project(inside, y), inside)
    border = torch.tensor([-0.75, -0.25, 0.75], dtype=torch.float64).expand(1, 3, 1, 3)
    assert torch.equal(operator.project(outside, y), border)
    torch.testing.assert_close(operator.prox(outside, y, 1.0), 0.5 * (outside + border))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Jpeg(16, 24, 20), "multiples of 16"),
        (lambda: Jpeg(16, 20, 20, "4:4:4"), "multiples of 8"),
        (lambda: Jpeg(16, 16, 0), r"degradation\.quality"),
        (lambda: Jpeg(16, 16, 50, "4:1:1"), r"degradation\.chroma"),
        (lambda: Quantisation(8, 8, 1), r"degradation\.levels"),
        (lambda: Clipping(8, 8, 0.5), r"degradation\.gain"),
    ],
)
def test_an_impossible_codec_is_refused_by_field(make, named: str) -> None:
    with pytest.raises(OperatorError, match=named):
        make()
