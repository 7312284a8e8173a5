"""Operators over time: what their matrices are, how far they reach, and how they meet spatial ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator, Halo
from operators.degradations.blur import GaussianBlur
from operators.degradations.colorization import Colorization
from operators.degradations.composition import LinearComposition, SeparableComposition, compose
from operators.degradations.denoise import Denoise
from operators.degradations.flicker import ExposureFlicker, rolling_gains
from operators.degradations.interlace import Interlace
from operators.degradations.jpeg import Jpeg
from operators.degradations.noise_models import GaussianNoise
from operators.degradations.salt_and_pepper import SaltAndPepper
from operators.degradations.spatiotemporal import SpatioTemporal
from operators.degradations.super_resolution import AreaDownsampling, BicubicDownsampling
from operators.degradations.temporal import (
    TemporalAverage,
    TemporalBlur,
    TemporalSubsampling,
    average_matrix,
    blur_matrix,
    gaussian_temporal_kernel,
    uniform_temporal_kernel,
)
from operators.errors import OperatorError


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dense(operator: ForwardOperator, frames: int) -> Tensor:
    """The matrix of a linear operator on clips of ``frames`` pictures, by its columns."""
    size = frames * 3 * operator.height * operator.width
    columns = [
        operator.apply(unit.view(frames, 3, operator.height, operator.width)).flatten()
        for unit in torch.eye(size, dtype=torch.float64)
    ]
    return torch.stack(columns, dim=1)


def test_an_average_repeats_the_last_frame_to_fill_its_last_group() -> None:
    matrix = average_matrix(5, 3)
    expected = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 0, 1, 2]], dtype=torch.float64) / 3.0
    torch.testing.assert_close(matrix, expected)


def test_full_groups_have_the_identity_over_the_rate_as_gram_matrix_and_repetition_as_inverse() -> None:
    operator = TemporalAverage(4, 5, 12, 4)
    y = normal(0, 3, 3, 4, 5)
    torch.testing.assert_close(operator.apply(operator.adjoint(y)), y / 4.0)
    torch.testing.assert_close(operator.pinv(y), y.repeat_interleave(4, 0))


@pytest.mark.parametrize(("frames", "smallest"), [(14, 0.0), (16, 0.0284), (25, 0.0228)])
def test_a_periodic_mean_of_seven_is_singular_exactly_when_seven_divides_into_the_clip(
    frames: int, smallest: float
) -> None:
    matrix = blur_matrix(frames, uniform_temporal_kernel(7), "circular")
    torch.testing.assert_close(matrix, matrix.T)
    assert float(torch.linalg.svdvals(matrix)[-1]) == pytest.approx(smallest, abs=5e-4)


def test_replicated_ends_gather_the_weights_beyond_the_clip() -> None:
    matrix = blur_matrix(6, uniform_temporal_kernel(5), "replicate")
    assert matrix[0].tolist() == pytest.approx([0.6, 0.2, 0.2, 0, 0, 0])
    assert not torch.equal(matrix, matrix.T)
    torch.testing.assert_close(matrix.sum(1), torch.ones(6, dtype=torch.float64))


def test_an_interpolated_start_agrees_with_the_measured_frames_and_is_linear_between() -> None:
    operator = TemporalSubsampling(2, 2, 8, 3)
    ramp = torch.arange(8, dtype=torch.float64).view(8, 1, 1, 1).expand(8, 3, 2, 2)
    restored = operator.classical(operator.apply(ramp))
    torch.testing.assert_close(restored[:7], ramp[:7])
    torch.testing.assert_close(restored[7], ramp[6])


REACHING = {
    "average": TemporalAverage(3, 4, 12, 3),
    "subsampling": TemporalSubsampling(3, 4, 12, 4),
    "uniform": TemporalBlur(3, 4, 12, uniform_temporal_kernel(5), "replicate"),
    "gaussian": TemporalBlur(3, 4, 12, gaussian_temporal_kernel(0.7), "replicate"),
    "interlace": Interlace(4, 4),
}


@pytest.mark.parametrize("name", REACHING)
def test_what_a_frame_takes_part_in_reaches_no_further_than_the_halo(name: str) -> None:
    operator = REACHING[name]
    x = normal(1, 12, 3, operator.height, operator.width)
    for frame in range(12):
        touched = x.clone()
        touched[frame] += 1.0
        # Frames that meet ``frame`` in some measurement.
        change = operator.apply(touched) - operator.apply(x)
        met = operator.adjoint(change).flatten(1).abs().sum(1).nonzero().flatten()
        assert all(frame - 2 * operator.halo.before <= m <= frame + 2 * operator.halo.after for m in met)
        rows = change.flatten(1).abs().sum(1).nonzero().flatten().tolist()
        for row in rows:
            reached = operator.adjoint(normal(2, *change.shape) * _only(row, change)).flatten(1).abs().sum(1)
            places = reached.nonzero().flatten()
            assert places.min() >= frame - 2 * operator.halo.before
            assert places.max() <= frame + 2 * operator.halo.after


def _only(row: int, like: Tensor) -> Tensor:
    chosen = torch.zeros(len(like), 1, 1, 1, dtype=like.dtype)
    chosen[row] = 1.0
    return chosen


@pytest.mark.parametrize(
    "temporal",
    [
        TemporalBlur(4, 4, 5, uniform_temporal_kernel(3), "circular"),
        TemporalBlur(4, 4, 5, gaussian_temporal_kernel(0.5), "replicate"),
        TemporalAverage(4, 4, 5, 2),
        TemporalSubsampling(4, 4, 5, 2),
    ],
)
@pytest.mark.parametrize(
    "spatial", [AreaDownsampling(4, 4, 2), BicubicDownsampling(4, 4, 2), Colorization(4, 4)]
)
def test_a_spatiotemporal_operator_agrees_with_dense_algebra(spatial, temporal) -> None:
    operator = SpatioTemporal(spatial, temporal)
    matrix = dense(operator, 5)
    count = operator.measured_frames(5)
    x, y, gamma = normal(3, 5, 3, 4, 4), normal(4, count, *operator.measured_shape), 40.0
    torch.testing.assert_close(operator.adjoint(y).flatten(), matrix.T @ y.flatten())
    system = torch.eye(x.numel(), dtype=torch.float64) + gamma * matrix.T @ matrix
    expected = torch.linalg.solve(system, x.flatten() + gamma * matrix.T @ y.flatten())
    torch.testing.assert_close(operator.prox(x, y, gamma).flatten(), expected, rtol=1e-9, atol=1e-9)
    inverse = torch.linalg.pinv(matrix, rtol=1e-9)
    torch.testing.assert_close(operator.pinv(y).flatten(), inverse @ y.flatten(), rtol=1e-6, atol=1e-8)


def test_spatial_and_temporal_parts_commute() -> None:
    temporal = TemporalBlur(8, 8, 6, uniform_temporal_kernel(3))
    small = TemporalBlur(4, 4, 6, uniform_temporal_kernel(3))
    spatial = AreaDownsampling(8, 8, 2)
    x = normal(5, 6, 3, 8, 8)
    torch.testing.assert_close(
        SpatioTemporal(spatial, temporal).apply(x), small.apply(spatial.apply(x)), rtol=1e-12, atol=1e-12
    )


def test_parts_that_cannot_be_combined_over_time_are_refused_or_say_what_they_lack() -> None:
    temporal = TemporalAverage(16, 16, 4, 2)
    with pytest.raises(OperatorError, match="Jpeg cannot be combined"):
        SpatioTemporal(Jpeg(16, 16, 50), temporal)
    with pytest.raises(OperatorError, match="Interlace cannot be combined"):
        SpatioTemporal(Interlace(16, 16), temporal)
    operator = SpatioTemporal(SaltAndPepper(16, 16, 0.1), temporal)
    assert not operator.has_prox
    assert not operator.complete
    with pytest.raises(OperatorError, match="no closed-form prox"):
        operator.prox(normal(0, 4, 3, 16, 16), normal(0, 2, 3, 16, 16), 1.0)


def test_a_composition_is_as_exact_as_its_parts_allow() -> None:
    blur, smaller = GaussianBlur(12, 16, 0.7, "reflect", 0.0), BicubicDownsampling(12, 16, 2)
    assert compose(blur) is blur
    exact = compose(blur, smaller)
    assert isinstance(exact, SeparableComposition)
    iterative = LinearComposition(blur, smaller)
    x, y = normal(6, 2, 3, 12, 16), normal(7, 2, 3, 6, 8)
    torch.testing.assert_close(exact.apply(x), iterative.apply(x))
    torch.testing.assert_close(exact.prox(x, y, 3.0), iterative.prox(x, y, 3.0), rtol=1e-4, atol=1e-4)
    assert compose(smaller, Denoise(6, 8), Colorization(6, 8)).measured_shape == (1, 6, 8)
    assert not compose(AreaDownsampling(16, 16, 2), Jpeg(8, 8, 50, "4:4:4")).linear


def test_a_composition_takes_scale_noise_and_halo_from_its_parts() -> None:
    noisy = AreaDownsampling(8, 8, 2).with_noise(GaussianNoise(0.25))
    operator = compose(Interlace(8, 8), noisy)
    assert operator.scale == 2
    assert operator.halo == Halo(1, 1)
    assert operator.noise_model.sigma == 0.25
    assert operator.measured_frames(6) == 3
    assert operator.measured_shape == (3, 4, 4)


def test_parts_of_sizes_that_do_not_follow_each_other_are_refused() -> None:
    with pytest.raises(OperatorError, match=r"gives \(3, 4, 4\) and GaussianBlur takes \(3, 8, 8\)"):
        compose(AreaDownsampling(8, 8, 2), GaussianBlur(8, 8, 0.5, "reflect", 0.0))
    with pytest.raises(OperatorError, match="nothing to compose"):
        compose()
    with pytest.raises(OperatorError, match="SaltAndPepper cannot be composed"):
        compose(GaussianBlur(8, 8, 0.5, "reflect", 0.0), SaltAndPepper(8, 8, 0.1))


def test_interlacing_keeps_a_field_of_each_moment_and_bob_restores_slopes() -> None:
    early, late = torch.zeros(1, 3, 6, 4), torch.ones(1, 3, 6, 4)
    woven = Interlace(6, 4, "top").apply(torch.cat([early, late]))
    assert woven[0, 0, :, 0].tolist() == [0, 1, 0, 1, 0, 1]
    assert Interlace(6, 4, "bottom").apply(torch.cat([early, late]))[0, 0, :, 0].tolist() == [
        1,
        0,
        1,
        0,
        1,
        0,
    ]
    operator = Interlace(7, 3)
    slope = torch.arange(7.0).view(1, 1, 7, 1).expand(2, 3, 7, 3)
    restored = operator.classical(operator.apply(slope))
    torch.testing.assert_close(restored[:, :, 1:-1], slope[:, :, 1:-1])
    with pytest.raises(OperatorError, match="even number"):
        operator.apply(torch.zeros(3, 3, 7, 3))


def test_flicker_is_undone_by_dividing_light_by_its_gain() -> None:
    gains = rolling_gains([3, 4, 5], 8, 0.2, 0.25, 8.0)
    operator = ExposureFlicker(6, gains)
    x = normal(8, 3, 3, 8, 6)
    y = operator.apply(x)
    torch.testing.assert_close((y + 1.0) / (x + 1.0), gains[:, None, :, None].expand_as(x))
    torch.testing.assert_close(operator.pinv(y), x)
    u = operator.prox(normal(9, *x.shape), y, 7.0)
    condition = 7.0 * operator.adjoint(operator.apply(u) - y) + u - normal(9, *x.shape)
    assert condition.abs().max() < 1e-12


def test_the_linear_part_of_flicker_has_its_exact_adjoint() -> None:
    operator = ExposureFlicker(6, rolling_gains(range(4), 8, 0.3, 0.1, 5.0))
    a, b, u = normal(1, 4, 3, 8, 6), normal(2, 4, 3, 8, 6), normal(3, 4, 3, 8, 6)
    difference = operator.apply(a) - operator.apply(b)
    gap = (difference * u).sum() - ((a - b) * operator.adjoint(u)).sum()
    assert abs(gap) <= 1e-12 * difference.norm() * u.norm()


def test_rolling_gains_belong_to_the_frames_ordinal_and_advance_along_rows() -> None:
    whole = rolling_gains(range(10), 6, 0.3, 0.17, 4.0)
    torch.testing.assert_close(rolling_gains([4, 7], 6, 0.3, 0.17, 4.0), whole[[4, 7]])
    torch.testing.assert_close(whole[:, 0], whole[:, 4])
    still = rolling_gains(range(4), 6, 0.3, 0.25, float("inf"))
    torch.testing.assert_close(still, still[:, :1].expand(4, 6))
    assert still[:, 0].tolist() == pytest.approx([1.0, 1.3, 1.0, 0.7])


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: TemporalAverage(4, 4, 3, 4), r"degradation\.rate"),
        (lambda: TemporalSubsampling(4, 4, 3, 1), r"degradation\.rate"),
        (lambda: TemporalBlur(4, 4, 5, uniform_temporal_kernel(7)), "7 taps does not fit a clip of 5"),
        (lambda: uniform_temporal_kernel(4), r"degradation\.taps"),
        (lambda: blur_matrix(5, uniform_temporal_kernel(3), "reflect"), r"degradation\.ends"),
        (lambda: Interlace(4, 4, "even"), r"degradation\.first"),
        (lambda: rolling_gains([0], 4, 1.0, 0.1, 4.0), r"degradation\.depth"),
        (lambda: rolling_gains([0], 4, 0.5, 0.1, 0.0), r"degradation\.rows_per_cycle"),
        (lambda: ExposureFlicker(4, torch.zeros(2, 4)), r"degradation\.gains"),
    ],
)
def test_an_impossible_time_operator_is_refused_by_field(make, named: str) -> None:
    with pytest.raises(OperatorError, match=named):
        make()
