"""Every operator is linear, has its exact adjoint and pseudo-inverse, and an optimal prox."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.degradations.kernels import motion_kernel
from operators.degradations.registry import build_operator, measurement_sigma
from operators.errors import OperatorError

# (spec, height, width): odd sizes wherever the operator allows them.
CASES = {
    "denoise": ({"kind": "denoise", "noise": 0.1}, 9, 7),
    "area x2": ({"kind": "super_resolution", "scale": 2, "kernel": "area"}, 10, 14),
    "area x3": ({"kind": "super_resolution", "scale": 3, "kernel": "area"}, 9, 15),
    "bicubic x2": ({"kind": "super_resolution", "scale": 2, "kernel": "bicubic"}, 14, 18),
    "bicubic x3": ({"kind": "super_resolution", "scale": 3, "kernel": "bicubic"}, 15, 21),
    "boxes": ({"kind": "inpainting", "boxes": [[1, 2, 3, 4], [5, 0, 2, 2]]}, 11, 9),
    "gaussian reflect": ({"kind": "deblur", "kernel": "gaussian", "sigma": 0.6}, 11, 13),
    "gaussian circular": (
        {"kind": "deblur", "kernel": "gaussian", "sigma": 0.6, "padding": "circular"},
        11,
        13,
    ),
    "random": ({"kind": "inpainting", "random": {"share": 0.4, "seed": 3}}, 11, 9),
    "stripes": ({"kind": "inpainting", "stripes": {"period": 4, "width": 1}}, 11, 9),
    "cubic x2": ({"kind": "super_resolution", "scale": 2, "kernel": "cubic"}, 14, 18),
    "area x7": ({"kind": "super_resolution", "scale": 7, "kernel": "area"}, 14, 21),
    "box": ({"kind": "deblur", "kernel": "box", "side": 3, "padding": "circular"}, 11, 13),
    "destriping": ({"kind": "destriping", "longest_period": 9}, 11, 13),
    "colorization": ({"kind": "colorization"}, 11, 13),
    "mean colorization": ({"kind": "colorization", "weights": "mean"}, 11, 13),
    "motion reflect": ({"kind": "deblur", "kernel": "motion", "length": 4, "angle": 30}, 11, 13),
    "motion circular": (
        {"kind": "deblur", "kernel": "motion", "length": 2.5, "angle": 110, "padding": "circular"},
        11,
        13,
    ),
}
EXACT_PINV = [name for name in CASES if name != "motion reflect"]


def operator_of(name: str) -> ForwardOperator:
    spec, height, width = CASES[name]
    return build_operator(spec, height, width, {})


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def picture_of(operator: ForwardOperator, seed: int = 0) -> Tensor:
    return normal(seed, 2, 3, operator.height, operator.width)


def measurement_of(operator: ForwardOperator, seed: int = 1) -> Tensor:
    return normal(seed, 2, *operator.measured_shape)


@pytest.mark.parametrize("name", CASES)
def test_the_adjoint_passes_the_dot_product_test_in_float64(name: str) -> None:
    operator = operator_of(name)
    x, u = picture_of(operator), measurement_of(operator)
    forward = (operator.apply(x) * u).sum()
    backward = (x * operator.adjoint(u)).sum()
    assert abs(forward - backward) <= 1e-12 * x.norm() * u.norm()


@pytest.mark.parametrize("name", CASES)
def test_the_adjoint_equals_the_vector_jacobian_product_of_autograd(name: str) -> None:
    operator = operator_of(name)
    x, u = picture_of(operator).requires_grad_(True), measurement_of(operator)
    (gradient,) = torch.autograd.grad((operator.apply(x) * u).sum(), x)
    torch.testing.assert_close(operator.adjoint(u), gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_the_operator_is_linear(name: str) -> None:
    operator = operator_of(name)
    a, b = picture_of(operator, 2), picture_of(operator, 3)
    torch.testing.assert_close(operator.apply(2.0 * a - b), 2.0 * operator.apply(a) - operator.apply(b))


@pytest.mark.parametrize("name", EXACT_PINV)
def test_the_pseudo_inverse_reproduces_every_measurement_a_picture_can_cause(name: str) -> None:
    operator = operator_of(name)
    y = operator.apply(picture_of(operator))
    torch.testing.assert_close(operator.apply(operator.pinv(y)), y, rtol=0, atol=1e-9)


def test_a_long_periodic_motion_blur_has_a_truncated_but_consistent_pseudo_inverse() -> None:
    spec = {"kind": "deblur", "kernel": "motion", "length": 7, "angle": 30, "padding": "circular"}
    operator = build_operator(spec, 17, 19, {})
    back = operator.pinv(measurement_of(operator))
    torch.testing.assert_close(operator.pinv(operator.apply(back)), back, rtol=0, atol=1e-8)


@pytest.mark.parametrize("padding", ["reflect", "circular"])
def test_a_strong_blur_has_a_truncated_but_consistent_pseudo_inverse(padding: str) -> None:
    spec = {"kind": "deblur", "kernel": "gaussian", "sigma": 1.6, "padding": padding}
    operator = build_operator(spec, 17, 19, {})
    back = operator.pinv(measurement_of(operator))
    torch.testing.assert_close(operator.pinv(operator.apply(back)), back, rtol=0, atol=1e-8)


def test_the_pseudo_inverse_of_a_reflected_motion_blur_is_the_tikhonov_solution() -> None:
    operator = operator_of("motion reflect")
    y = measurement_of(operator)
    u = operator.pinv(y)
    gradient = operator.adjoint(operator.apply(u) - y) + 0.03**2 * u
    assert gradient.norm() < 2e-5 * operator.adjoint(y).norm()


@pytest.mark.parametrize("gamma", [0.0, 0.3, 7.0, 2000.0])
@pytest.mark.parametrize("name", CASES)
def test_the_prox_satisfies_its_optimality_condition(name: str, gamma: float) -> None:
    operator = operator_of(name)
    x, y = picture_of(operator), operator.restrict(measurement_of(operator))
    u = operator.prox(x, y, gamma)
    condition = gamma * operator.adjoint(operator.apply(u) - y) + u - x
    tolerance = 2e-5 if name == "motion reflect" else 1e-9
    assert condition.norm() <= tolerance * (gamma * operator.adjoint(y) + x).norm()


@pytest.mark.parametrize("name", CASES)
def test_a_batch_of_two_gives_the_same_as_two_batches_of_one(name: str) -> None:
    operator = operator_of(name)
    x, y = picture_of(operator), measurement_of(operator)
    x[1] *= 100.0
    together = operator.prox(x, y, 5.0)
    apart = torch.cat([operator.prox(x[i : i + 1], y[i : i + 1], 5.0) for i in range(2)])
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_a_constant_picture_is_measured_and_classically_restored_as_itself(name: str) -> None:
    operator = operator_of(name)
    grey = torch.full((1, 3, operator.height, operator.width), 0.25)
    restored = operator.classical(operator.apply(grey))
    assert restored.dtype == torch.float32
    torch.testing.assert_close(restored, grey, rtol=0, atol=0.02)


def test_bicubic_downsampling_equals_antialiased_interpolation() -> None:
    operator = operator_of("bicubic x3")
    x = picture_of(operator)
    size = (operator.height // 3, operator.width // 3)
    expected = torch.nn.functional.interpolate(x, size=size, mode="bicubic", antialias=True)
    torch.testing.assert_close(operator.apply(x), expected, rtol=0, atol=1e-12)


def test_area_downsampling_times_its_adjoint_is_the_identity_over_the_squared_factor() -> None:
    operator = operator_of("area x3")
    y = measurement_of(operator)
    torch.testing.assert_close(operator.apply(operator.adjoint(y)), y / 9.0)


def test_inpainting_ignores_what_a_video_shows_inside_the_hole() -> None:
    operator = operator_of("boxes")
    y = picture_of(operator).clamp(-1, 1)
    logo = torch.where(operator.apply(torch.ones_like(y)) == 0, torch.ones_like(y), y)
    x = picture_of(operator, 5)
    torch.testing.assert_close(operator.prox(x, logo, 3.0), operator.prox(x, y, 3.0))
    torch.testing.assert_close(operator.classical(logo), operator.classical(y))
    torch.testing.assert_close(operator.restrict(logo), operator.restrict(y))


def test_a_mask_picture_and_boxes_describe_the_same_operator() -> None:
    spec, height, width = CASES["boxes"]
    mask = np.full((height, width), 255, dtype=np.uint8)
    for x, y, w, h in spec["boxes"]:
        mask[y : y + h, x : x + w] = 0
    by_mask = build_operator({"kind": "inpainting"}, height, width, {"mask": mask})
    picture = picture_of(by_mask)
    assert torch.equal(by_mask.apply(picture), operator_of("boxes").apply(picture))


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 135.0])
def test_a_motion_kernel_sums_to_one_and_lies_along_its_angle(angle: float) -> None:
    kernel = motion_kernel(9, angle)
    grid = torch.arange(9, dtype=torch.float64) - 4
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    along = kernel * (grid * cosine - grid[:, None] * sine) ** 2
    across = kernel * (grid * sine + grid[:, None] * cosine) ** 2
    assert kernel.sum() == pytest.approx(1.0, abs=1e-12)
    assert along.sum() > 10 * across.sum()


def test_noise_is_stated_on_unit_range_and_doubled_once() -> None:
    assert measurement_sigma({"kind": "denoise", "noise": 0.1}) == pytest.approx(0.2)
    assert measurement_sigma({"kind": "denoise"}) == 0.0


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"kind": "sharpen"}, "degradation.kind"),
        ({}, "degradation.kind"),
        ({"kind": "super_resolution"}, "degradation.scale"),
        ({"kind": "super_resolution", "scale": 3}, "degradation.scale"),
        ({"kind": "super_resolution", "scale": 2, "kernel": "lanczos"}, "degradation.kernel"),
        ({"kind": "deblur", "kernel": "gaussian"}, "degradation.sigma"),
        ({"kind": "deblur", "kernel": "gaussian", "sigma": 0.0}, "degradation.sigma"),
        ({"kind": "deblur", "kernel": "motion", "length": 60}, "reaches over"),
        ({"kind": "deblur", "kernel": "gaussian", "sigma": 1, "padding": "zero"}, "degradation.padding"),
        ({"kind": "inpainting"}, "mask"),
        ({"kind": "inpainting", "stripes": {"period": 4, "width": 5}}, r"degradation\.stripes\.width"),
        ({"kind": "deblur", "kernel": "disk"}, "degradation.radius"),
        (
            {"kind": "deblur", "kernel": "disk", "radius": 9},
            "reaches over 19 pixels does not fit a picture side of 16",
        ),
        ({"kind": "deblur", "kernel": "box", "side": 18}, "reaches over 18 pixels"),
        ({"kind": "deblur", "kernel": "gaussian", "sigma": 4}, "reaches over 17 pixels"),
        ({"kind": "deblur", "kernel": "star"}, "disk, box or lens"),
        ({"kind": "denoise", "noise": 25}, r"degradation\.noise"),
        ({"kind": "shot_noise"}, "degradation.peak"),
        ({"kind": "salt_and_pepper", "fraction": 1.0}, "degradation.fraction"),
        ({"kind": "jpeg", "quality": 101}, "degradation.quality"),
        ({"kind": "quantisation", "levels": 1}, "degradation.levels"),
        ({"kind": "clipping", "gain": 0.1}, "degradation.gain"),
        ({"kind": "destriping", "orientation": "x"}, "degradation.orientation"),
        ({"kind": "colorization", "weights": "green"}, "degradation.weights"),
        ({"kind": "inpainting", "boxes": [[10, 0, 10, 4]]}, r"degradation.boxes\[0\]"),
    ],
)
def test_an_impossible_spec_is_refused_by_name(spec: dict[str, object], named: str) -> None:
    with pytest.raises(OperatorError, match=named):
        build_operator(spec, 16, 16, {})


@pytest.mark.parametrize(
    ("spec", "sigma"),
    [
        ({"kind": "colorization", "noise": 0.03}, 0.06),
        ({"kind": "jpeg", "quality": 40}, 0.0),
        ({"kind": "shot_noise", "peak": 200.0}, 2.0 * math.sqrt(0.5 / 200.0)),
        ({"kind": "salt_and_pepper", "fraction": 0.1, "noise": 0.02}, 0.04),
    ],
)
def test_an_operator_carries_the_noise_of_its_spec(spec: dict[str, object], sigma: float) -> None:
    assert measurement_sigma(spec) == pytest.approx(sigma)
    operator = build_operator(spec, 16, 16, {})
    assert operator.noise_model.sigma == pytest.approx(sigma)
    assert operator.noise_model.unit_sigma == pytest.approx(sigma / 2.0)


def test_every_kind_of_blur_keeps_its_name_and_width() -> None:
    point = torch.zeros(1, 3, 33, 33, dtype=torch.float64)
    point[..., 16, 16] = 1.0
    offsets = torch.arange(33, dtype=torch.float64) - 16.0
    specs = {
        "gaussian": ({"sigma": 2.0}, 4.0),
        "anisotropic": ({"sigma": 2.5, "sigma_across": 1.0, "angle": 0.0}, 6.25),
        "motion": ({"length": 9.0}, 64.0 / 12.0),
        "disk": ({"radius": 4.0}, 4.0),
        "box": ({"side": 7}, 4.0),
    }
    for kernel, (members, variance) in specs.items():
        operator = build_operator({"kind": "deblur", "kernel": kernel, **members}, 33, 33, {})
        spread = operator.apply(point)[0, 1]
        assert float((spread.sum(0) * offsets.square()).sum()) == pytest.approx(variance, rel=0.1), kernel


def test_a_composition_applies_its_parts_in_the_order_in_which_they_happened() -> None:
    blur = {"kind": "deblur", "kernel": "disk", "radius": 1.5}
    half = {"kind": "super_resolution", "scale": 2, "kernel": "bicubic"}
    whole = build_operator({"kind": "composition", "parts": [blur, half], "noise": 0.1}, 12, 16, {})
    first, second = build_operator(blur, 12, 16, {}), build_operator(half, 12, 16, {})
    x = normal(0, 1, 3, 12, 16)
    torch.testing.assert_close(whole.apply(x), second.apply(first.apply(x)))
    assert whole.scale == 2
    assert whole.noise_model.sigma == pytest.approx(0.2)


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(OperatorError, match="same size"):
        build_operator({"kind": "inpainting"}, 16, 16, {"mask": np.ones((8, 8), np.uint8)})


def test_noise_outside_the_unit_range_is_refused() -> None:
    with pytest.raises(OperatorError, match=r"degradation\.noise"):
        measurement_sigma({"kind": "denoise", "noise": 25})
