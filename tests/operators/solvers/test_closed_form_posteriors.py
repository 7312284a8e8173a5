"""Solvers against posteriors known in closed form.

A linear measurement with A A^T = I of 4 of 8 directions of a Gaussian, noise 0.05 and 0.3. No published
sampler is exact; each is off in its own way, and the figures below say how: variance over the exact
posterior's in the range (va) and the null space (vn) of A, and the residual over the noise. They are those of
the specification's table, from another implementation, prior and measurement, so bands are wide: a factor
1.5 on va and on the residual where the table says more than 0.1, else 0.1 at most, and 0.12 on vn. How far
the mean is off depends on the measurement drawn: it may not exceed the table's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from operators.solvers.base import StepSolver, restore
from operators.solvers.data_steps import data_loss, gradient_through_network
from operators.solvers.ddim import leading_timesteps
from operators.solvers.diffpir import DiffPir
from operators.solvers.flowchef import FlowChef
from operators.solvers.flowdps import FlowDps
from operators.solvers.latino import EIGHT_STEPS, Latino
from operators.solvers.ldps import Ldps
from operators.solvers.levels import flow_alphas
from operators.solvers.likelihoods import gaussian_misfit
from operators.solvers.psld import Psld
from operators.solvers.reddiff import RedDiff
from operators.solvers.reencode import NormalFit
from operators.solvers.stsl import Stsl
from operators.solvers.svi import Svi
from operators.solvers.treg import TReg
from tests.support.vector_priors import (
    SeededDraws,
    VectorMixture,
    gaussian_vector_prior,
    orthonormal_measurement,
    two_modes,
)

D, M, CHAINS = 8, 4, 1000
#: Pixels per latent unit for LATINO, which clips pixels; its prox weight scales as the square.
SMALL = 0.1
A = orthonormal_measurement(D, M)
LONG = leading_timesteps(999)


@dataclass
class Found:
    """What a sampler did: see the module's docstring."""

    mean: float
    va: float
    vn: float
    residual: float


def build(name: str, sigma: float) -> StepSolver:
    fit = NormalFit(A, 1e-4, 5, 1e-4)
    return {
        "dps": lambda: Ldps(A, LONG, 0.3, rule="ancestral"),
        "psld": lambda: Psld(A, LONG, 1.0, 0.1),
        "stsl": lambda: Stsl(A, leading_timesteps(50), weight=0.1, forward="noised"),
        "svi": lambda: Svi(NormalFit(A, 0.0, 5, 1e-5), leading_timesteps(20), 0.15, shared=False),
        "diffpir": lambda: DiffPir(A, leading_timesteps(100), sigma, 1.0, 0.3),
        "diffpir zeta 1": lambda: DiffPir(A, leading_timesteps(100), sigma, 1.0, 1.0),
        "treg": lambda: TReg(fit, leading_timesteps(200), 3, 170),
        "reddiff": lambda: RedDiff(A, LONG, 0.1, 0.25),
        "latino": lambda: Latino(A, EIGHT_STEPS, (SMALL**2,) * 8, sigma),
        "flowdps": lambda: FlowDps(A, tuple(range(964, 0, -35)), 0.5, 3),
        "flowchef": lambda: FlowChef(A, tuple(range(990, 0, -10)), 0.1, 1),
    }[name]()


def prior_for(name: str) -> VectorMixture:
    prior = gaussian_vector_prior(D)
    if name == "latino":
        prior.sampling, prior.pixel_scale = True, SMALL
    if name.startswith("flow"):
        prior.kind, prior.alphas_cumprod = "flow", flow_alphas(torch.arange(1000) / 1000)
    return prior


def measure(prior: VectorMixture, sigma: float) -> Tensor:
    noise = torch.randn(M, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return A.matrix @ prior.draw(1).flatten() + sigma * noise


def sample(name: str, sigma: float) -> Found:
    prior = prior_for(name)
    y = measure(gaussian_vector_prior(D), sigma)
    scale = prior.pixel_scale
    start = SeededDraws(9).normal(torch.zeros(CHAINS, D, 1, 1, dtype=torch.float64), 0, "start")
    chains = (scale * y).view(1, M, 1, 1).expand(CHAINS, -1, -1, -1)
    x = restore(build(name, scale * sigma), chains, start, prior, SeededDraws(3)).flatten(1) / scale
    exact_mean, exact = prior.posterior(A, y, sigma).moments()
    root = torch.linalg.cholesky(prior.covariances[0])
    off = torch.linalg.solve_triangular(root, (x.mean(0) - exact_mean)[:, None], upper=False)
    found = torch.cov(x.T)
    null = torch.linalg.svd(A.matrix).Vh[M:]

    def ratio(rows: Tensor) -> float:
        return float(((rows @ found @ rows.T).diagonal() / (rows @ exact @ rows.T).diagonal()).mean())

    residual = float((x @ A.matrix.T - y).square().mean().sqrt()) / sigma
    return Found(float(off.norm()) / math.sqrt(D), ratio(A.matrix), ratio(null), residual)


#: name, noise: mean off by at most, va, vn, residual. The table of the specification, section 10.2.
TABLE = {
    ("dps", 0.05): Found(0.33, 2.6, 0.96, 1.60),
    ("dps", 0.3): Found(0.43, 0.08, 0.93, 0.26),
    ("psld", 0.05): Found(0.62, 31.0, 0.94, 6.80),
    ("psld", 0.3): Found(0.69, 0.99, 0.94, 1.16),
    ("stsl", 0.05): Found(0.11, 0.36, 0.91, 0.61),
    ("stsl", 0.3): Found(0.30, 0.01, 0.86, 0.10),
    ("svi", 0.05): Found(0.11, 0.0, 0.84, 0.0),
    ("svi", 0.3): Found(0.29, 0.0, 0.79, 0.0),
    ("diffpir", 0.05): Found(0.16, 0.47, 0.92, 0.70),
    ("diffpir", 0.3): Found(0.18, 0.73, 0.92, 0.99),
    ("diffpir zeta 1", 0.05): Found(0.08, 0.28, 0.48, 0.55),
    ("diffpir zeta 1", 0.3): Found(0.07, 0.41, 0.48, 0.88),
    ("treg", 0.05): Found(0.18, 51.0, 0.86, 7.51),
    ("treg", 0.3): Found(0.15, 1.6, 0.82, 1.26),
    ("reddiff", 0.05): Found(0.05, 0.06, 0.16, 0.25),
    ("reddiff", 0.3): Found(0.27, 0.0, 0.15, 0.04),
    ("latino", 0.05): Found(0.27, 0.03, 1.10, 0.20),
    ("latino", 0.3): Found(0.31, 0.46, 1.08, 0.86),
    ("flowdps", 0.05): Found(0.35, 32.0, 0.72, 7.94),
    ("flowdps", 0.3): Found(0.16, 1.1, 0.71, 1.36),
    ("flowchef", 0.05): Found(0.12, 0.05, 0.99, 0.94),
    ("flowchef", 0.3): Found(0.34, 0.0, 0.94, 0.16),
}


@pytest.mark.parametrize(("name", "sigma"), TABLE)
def test_a_sampler_is_off_from_the_exact_posterior_as_its_method_is(name: str, sigma: float) -> None:
    found, table = sample(name, sigma), TABLE[name, sigma]
    assert found.mean <= table.mean
    assert found.vn == pytest.approx(table.vn, abs=0.12)
    if name == "flowchef":
        # The table's loss and step are not told; only what A does not see can be compared.
        return
    for ours, theirs in ((found.va, table.va), (found.residual, table.residual)):
        if theirs > 0.1:
            assert theirs / 1.5 < ours < theirs * 1.5
        else:
            assert ours < 0.1


#: On two modes of which the exact posterior gives the first a share of 0.70: how far the mean is off in
#: posterior standard deviations, the trace of the covariance over the exact one's, and the share of chains at
#: the first mode. Measured with this test; no outside figures. Split data steps keep the width and lose the
#: weights of the modes; gradients of unit length (dps, psld, stsl) pull too many chains to the likelier one.
MODES = {
    "dps": (0.51, 0.43, 0.96),
    "psld": (1.19, 0.51, 0.99),
    "stsl": (0.60, 0.82, 0.86),
    "svi": (0.38, 0.92, 0.50),
    "diffpir": (0.46, 1.04, 0.43),
    "diffpir zeta 1": (0.38, 0.91, 0.47),
    "treg": (0.45, 1.13, 0.44),
    "reddiff": (0.56, 0.72, 0.37),
    "latino": (0.49, 1.10, 0.41),
    "flowdps": (0.41, 0.98, 0.45),
    "flowchef": (0.30, 1.01, 0.55),
}


@pytest.mark.parametrize("name", MODES)
def test_what_a_sampler_makes_of_two_modes(name: str) -> None:
    prior, sigma = two_modes(D), 0.2
    like = prior_for(name)
    prior.kind, prior.alphas_cumprod, prior.sampling = like.kind, like.alphas_cumprod, like.sampling
    scale = prior.pixel_scale = like.pixel_scale
    y = A.matrix @ prior.means[0]
    exact = prior.posterior(A, y, sigma)
    assert float(exact.weights[0]) == pytest.approx(0.70, abs=0.01)
    start = SeededDraws(9).normal(torch.zeros(CHAINS, D, 1, 1, dtype=torch.float64), 0, "start")
    chains = (scale * y).view(1, M, 1, 1).expand(CHAINS, -1, -1, -1)
    x = restore(build(name, scale * sigma), chains, start, prior, SeededDraws(2)).flatten(1) / scale
    mean, covariance = exact.moments()
    off = float((x.mean(0) - mean).norm() / covariance.trace().sqrt())
    spread = float(torch.cov(x.T).trace() / covariance.trace())
    first = (x - prior.means[0]).norm(dim=1) < (x - prior.means[1]).norm(dim=1)
    assert (off, spread, float(first.double().mean())) == pytest.approx(MODES[name], abs=0.08)


# --- identities -------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", [gaussian_vector_prior(D), two_modes(D)], ids=["gaussian", "mixture"])
@pytest.mark.parametrize("t", [21, 401, 801])
def test_second_order_tweedie_the_covariance_of_the_clean_latent_is_the_jacobian_of_its_mean(
    prior: VectorMixture, t: int
) -> None:
    """Cov[z0 | z] = (1 - ab) / sqrt(ab) J = (1 - ab) / ab (I + (1 - ab) Hess log p): to 1e-10 in float64."""
    ab = prior.alphas_cumprod[t]
    z = 0.7 * SeededDraws(1).normal(torch.zeros(1, D, 1, 1, dtype=torch.float64), t, "z")
    exact = posterior_covariance(prior, z.flatten(), ab)
    jacobian = jacobian_of(lambda v: prior.predict(v, t).z0, z)
    hessian = jacobian_of(lambda v: -prior.predict(v, t).eps / (1 - ab).sqrt(), z)
    identity = torch.eye(D, dtype=torch.float64)
    torch.testing.assert_close((1 - ab) / ab.sqrt() * jacobian, exact, rtol=0, atol=1e-10)
    torch.testing.assert_close((1 - ab) / ab * (identity + (1 - ab) * hessian), exact, rtol=0, atol=1e-10)


def posterior_covariance(prior: VectorMixture, z: Tensor, ab: Tensor) -> Tensor:
    """Cov[z0 | z] by Bayes' rule on the mixture, without the score."""
    observed = orthonormal_measurement(D, D)
    observed.matrix = ab.sqrt() * torch.eye(D, dtype=torch.float64)
    return prior.posterior(observed, z, float((1 - ab).sqrt())).moments()[1]


def jacobian_of(function, z: Tensor) -> Tensor:
    return torch.autograd.functional.jacobian(lambda v: function(v).flatten(), z).view(D, D)


def test_the_gradient_of_dps_is_the_jacobian_applied_to_the_residual() -> None:
    """grad ||y - A z0(z)|| = -J^T A^T r / ||r||; only the exact guidance has A Cov A^T in it as well."""
    prior, t = two_modes(D), 301
    z = SeededDraws(1).normal(torch.zeros(1, D, 1, 1, dtype=torch.float64), t, "z")
    y = SeededDraws(2).normal(torch.zeros(1, M, 1, 1, dtype=torch.float64), t, "y")
    _, gradient = gradient_through_network(z, t, prior, data_loss(A, y, prior, gaussian_misfit))
    residual = (y - A.apply(prior.predict(z, t).z0)).flatten()
    jacobian = jacobian_of(lambda v: prior.predict(v, t).z0, z)
    expected = -jacobian.T @ A.matrix.T @ residual / residual.norm()
    torch.testing.assert_close(gradient.flatten(), expected, rtol=1e-9, atol=1e-12)


def test_stsl_is_its_first_order_counterpart_on_a_gaussian_prior() -> None:
    """The score is affine, so the trace does not depend on z and its gradient is zero for every probe."""
    prior = gaussian_vector_prior(D)
    start = SeededDraws(9).normal(torch.zeros(5, D, 1, 1, dtype=torch.float64), 0, "start")
    y = measure(prior, 0.1).view(1, M, 1, 1).expand(5, -1, -1, -1)
    second = Stsl(A, leading_timesteps(20), weight=0.1, eta=0.02, forward="random")
    ours, first = (restore(s, y, start, prior, SeededDraws(1)) for s in (second, replace(second, eta=0.0)))
    torch.testing.assert_close(ours, first, rtol=0, atol=1e-10)


def test_stsl_differs_from_its_first_order_counterpart_on_a_mixture() -> None:
    prior = two_modes(D)
    start = SeededDraws(9).normal(torch.zeros(5, D, 1, 1, dtype=torch.float64), 0, "start")
    y = measure(prior, 0.1).view(1, M, 1, 1).expand(5, -1, -1, -1)
    second = Stsl(A, leading_timesteps(20), weight=0.1, eta=0.5, forward="random")
    ours, first = (restore(s, y, start, prior, SeededDraws(1)) for s in (second, replace(second, eta=0.0)))
    assert float((ours - first).abs().max()) > 1e-2


def test_the_probe_of_stsl_estimates_the_trace_of_the_scores_jacobian() -> None:
    """Without bias for any step on a Gaussian; on a mixture the paper's step of 1 is biased, a small one is
    not: mean over 4000 probes within four standard errors."""
    t, probes = 301, 4000
    for prior, size in ((gaussian_vector_prior(D), 1.0), (two_modes(D), 0.01)):
        ab = prior.alphas_cumprod[t]
        z = SeededDraws(1).normal(torch.zeros(1, D, 1, 1, dtype=torch.float64), t, "z")
        hessian = jacobian_of(lambda v, p=prior, s=ab: -p.predict(v, t).eps / (1 - s).sqrt(), z)
        solver = Stsl(A, (t,), probe_size=size)
        many = z.expand(probes, -1, -1, -1)
        probe = SeededDraws(4).normal(many, 0, "probe")
        traces = solver._traces(many, prior.predict(many, t), probe, t, prior) * D
        error = float(traces.std()) / math.sqrt(probes)
        assert float(traces.mean()) == pytest.approx(float(hessian.trace()), abs=4 * error)
