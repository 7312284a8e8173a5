"""Noise models: moments, keyed draws, likelihoods against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from operators.degradations.colorization import Colorization
from operators.degradations.denoise import Denoise
from operators.degradations.noise_models import GaussianNoise, ImpulseNoise, PoissonNoise, QuantisationNoise
from operators.errors import OperatorError

MODELS = [GaussianNoise(0.1), PoissonNoise(40.0), ImpulseNoise(0.2, 0.05)]


def grey(value: float, rows: int = 1, side: int = 120) -> torch.Tensor:
    return torch.full((rows, 3, side, side), value, dtype=torch.float64)


def test_gaussian_draws_have_the_announced_mean_and_deviation() -> None:
    residual = GaussianNoise(0.1).sample(grey(0.3), [(1, "a")]) - 0.3
    assert float(residual.mean()) == pytest.approx(0.0, abs=5 * 0.1 / math.sqrt(residual.numel()))
    assert float(residual.std()) == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize("value", [-0.8, 0.0, 0.9])
def test_poisson_draws_have_the_brightness_as_mean_and_over_the_peak_as_variance(value: float) -> None:
    light = (value + 1.0) / 2.0
    drawn = (PoissonNoise(40.0).sample(grey(value), [(2, "b")]) + 1.0) / 2.0
    assert float(drawn.mean()) == pytest.approx(light, rel=0.02)
    assert float(drawn.var()) == pytest.approx(light / 40.0, rel=0.04)
    counts = drawn * 40.0
    torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-9)


def test_impulses_turn_whole_pixels_black_or_white_half_each() -> None:
    y = ImpulseNoise(0.2).sample(grey(0.1), [(3, "c")])
    salt, pepper = (y == 1.0).all(1), (y == -1.0).all(1)
    spread = 5.0 * math.sqrt(0.1 * 0.9 / salt.numel())
    assert float(salt.double().mean()) == pytest.approx(0.1, abs=spread)
    assert float(pepper.double().mean()) == pytest.approx(0.1, abs=spread)
    assert ((y == 0.1).all(1) | salt | pepper).all()


@pytest.mark.parametrize("model", MODELS)
def test_a_row_is_drawn_from_its_own_key_alone(model) -> None:
    keys = [(7, "clip", frame) for frame in range(3)]
    together = model.sample(grey(0.2, rows=3, side=16), keys)
    alone = model.sample(grey(0.2, side=16), keys[1:2])
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])


def test_the_gaussian_likelihood_is_that_of_scipy_up_to_its_constant() -> None:
    model, clean = GaussianNoise(0.2), torch.zeros(2, 3, 2, 2)
    y = torch.stack([torch.full((3, 2, 2), 0.1), torch.full((3, 2, 2), -0.4)])
    expected = -stats.norm(0.0, 0.2).logpdf(y.numpy()).reshape(2, -1).sum(1)
    ours = model.nll(clean, y)
    assert float(ours[1] - ours[0]) == pytest.approx(expected[1] - expected[0], rel=1e-5)


def test_the_poisson_likelihood_is_that_of_scipy_up_to_its_constant() -> None:
    model = PoissonNoise(50.0)
    y = torch.full((2, 3, 1, 1), 2.0 * 20.0 / 50.0 - 1.0, dtype=torch.float64)
    clean = torch.tensor([-0.3, 0.1], dtype=torch.float64).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    rates = [50.0 * (1.0 + value) / 2.0 for value in (-0.3, 0.1)]
    expected = [-3.0 * stats.poisson(rate).logpmf(20) for rate in rates]
    ours = model.nll(clean, y)
    assert float(ours[1] - ours[0]) == pytest.approx(expected[1] - expected[0], rel=1e-9)


def test_the_impulse_likelihood_forgives_extremes_and_nothing_else() -> None:
    model, clean = ImpulseNoise(0.1, 0.02), torch.zeros(1, 3, 4, 4)
    exact, near, salted = clean.clone(), clean.clone(), clean.clone()
    near[0, :, 0, 0], salted[0, :, 0, 0] = 0.9, 1.0
    assert float(model.nll(clean, salted)) == pytest.approx(
        float(model.nll(clean, exact))
        + 3.0 * (math.log(2.0 / 0.1) + math.log(0.9 * 2.0 / 255.0 / 0.02 / 2.5066)),
        rel=1e-4,
    )
    assert float(model.nll(clean, near)) > float(model.nll(clean, salted)) + 100.0


def test_quantisation_draws_lie_on_the_grid_and_their_likelihood_is_a_cell() -> None:
    model = QuantisationNoise(5)
    clean = torch.linspace(-1.2, 1.2, 12).view(1, 3, 2, 2)
    y = model.sample(clean, [(0,)])
    assert set(y.flatten().tolist()) == {-1.0, -0.5, 0.0, 0.5, 1.0}
    assert model.nll(clean.clamp(-1, 1), y).item() == 0.0
    assert model.nll(clean.clamp(-1, 1) + 0.6, y).item() == math.inf
    ramp = torch.linspace(-1, 1, 30000).view(1, 3, 100, 100)
    assert float((model.sample(ramp, [(0,)]) - ramp).std()) == pytest.approx(model.sigma, rel=1e-2)


@pytest.mark.parametrize("model", [GaussianNoise(0.1), PoissonNoise(200.0)])
def test_the_variance_that_a_measurement_suggests_is_that_of_its_draws(model) -> None:
    clean = grey(0.2)
    y = model.sample(clean, [(5, "v")])
    assert float(model.variance(y).mean()) == pytest.approx(float((y - clean).var()), rel=0.03)


def test_an_operator_simulates_and_judges_with_its_own_model() -> None:
    operator = Denoise(8, 8).with_noise(GaussianNoise(0.3))
    x = torch.zeros(2, 3, 8, 8)
    y = operator.simulate(x, [(1,), (2,)])
    assert float(y.std()) == pytest.approx(0.3, rel=0.15)
    expected = y.square().flatten(1).sum(1) / (2 * 0.3**2)
    torch.testing.assert_close(operator.nll(x, y), expected)
    assert Denoise(8, 8).noise_model.sigma == 0.0


def test_the_likelihood_looks_at_what_is_measured_alone() -> None:
    operator = Colorization(4, 4).with_noise(GaussianNoise(0.1))
    x = torch.rand(1, 3, 4, 4)
    video = operator.apply(x).expand(-1, 3, -1, -1)
    assert float(operator.nll(x, video)) == pytest.approx(0.0, abs=1e-6)


def test_levels_are_reported_on_the_unit_range_too() -> None:
    assert GaussianNoise(0.1).unit_sigma == pytest.approx(0.05)
    assert PoissonNoise(50.0).unit_sigma == pytest.approx(math.sqrt(0.5 / 50.0))
    assert QuantisationNoise(256).unit_sigma == pytest.approx(1 / 255 / math.sqrt(12))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: GaussianNoise(2.0), r"degradation\.noise: 1\.0 is outside \[0, 1\)"),
        (lambda: GaussianNoise(-0.1), r"degradation\.noise"),
        (lambda: GaussianNoise(math.nan), r"degradation\.noise"),
        (lambda: PoissonNoise(0.5), r"degradation\.peak"),
        (lambda: ImpulseNoise(0.0), r"degradation\.fraction"),
        (lambda: QuantisationNoise(1), r"degradation\.levels"),
    ],
)
def test_a_level_out_of_range_is_refused_by_field(make, named: str) -> None:
    with pytest.raises(OperatorError, match=named):
        make()
