"""Inversions that are exact, or become so: closed forms and properties in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from operators.closed_form.mixture import ChainDraws, VectorMixture, gaussian_vector_prior, two_modes
from operators.errors import OperatorError
from operators.inversion.bdia import Bdia
from operators.inversion.ddcm import Ddcm
from operators.inversion.ddim import ddim_invert
from operators.inversion.edict import Edict
from operators.inversion.edit_friendly import EditFriendly
from operators.inversion.fixed_point import fixed_point_invert, spd_invert
from operators.inversion.flow_edit import FlowEdit
from operators.inversion.path import along, rungs
from operators.inversion.pinned import direct_offsets
from operators.inversion.rf_edit import RfEdit, rf_invert
from operators.solvers.base import LatentPrior, Prediction, StepSolver, restore
from operators.solvers.ddim import leading_timesteps
from operators.solvers.levels import flow_alphas, level
from operators.solvers.step_rules import recombine

TIMESTEPS = leading_timesteps(20)


def clean(prior: VectorMixture, rows: int = 3) -> Tensor:
    return prior.draw(rows)


def normal(like: Tensor, seed: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, dtype=like.dtype, generator=generator)


def edited(solver: StepSolver, z0: Tensor, prior: LatentPrior) -> Tensor:
    return restore(solver, z0, normal(z0), prior, ChainDraws(3))


def sampled(z: Tensor, prior: LatentPrior) -> Tensor:
    for rung in rungs(prior, TIMESTEPS):
        z = along(z, prior.predict(z, rung.t).eps, rung.upper, rung.lower)
    return z


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("gamma", [1.0, 0.96])
def test_bdia_returns_to_where_it_came_from(gamma: float) -> None:
    prior = two_modes(6)
    z0 = clean(prior)
    assert error(edited(Bdia(TIMESTEPS, prior, gamma), z0, prior), z0) < 1e-11


@pytest.mark.parametrize("mixing", [0.93, 0.97])
def test_edict_returns_to_where_it_came_from(mixing: float) -> None:
    prior = two_modes(6)
    z0 = clean(prior)
    assert error(edited(Edict(TIMESTEPS, prior, mixing), z0, prior), z0) < 1e-9


def test_exact_methods_still_edit() -> None:
    """What is told another prior ends elsewhere: the round trip above is not the identity by accident."""
    source, target = two_modes(6), gaussian_vector_prior(6, seed=4)
    z0 = clean(source)
    for solver in (Bdia(TIMESTEPS, source), Edict(TIMESTEPS, source), EditFriendly(TIMESTEPS, source)):
        assert error(edited(solver, z0, target), z0) > 0.1


def test_bdia_refuses_a_gamma_that_cannot_be_undone() -> None:
    with pytest.raises(OperatorError, match="gamma"):
        Bdia(TIMESTEPS, two_modes(2), 0.0)


def test_one_fixed_point_iteration_is_ddim_inversion_and_more_come_closer() -> None:
    prior = two_modes(6)
    z0 = clean(prior)
    plain = ddim_invert(z0, TIMESTEPS, prior)
    assert torch.equal(fixed_point_invert(z0, TIMESTEPS, prior, iterations=1), plain)
    errors = [
        error(sampled(fixed_point_invert(z0, TIMESTEPS, prior, iterations=k, tolerance=0.0)[0], prior), z0)
        for k in (1, 2, 4, 40)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[3] < 1e-9


def test_acceleration_converges_in_fewer_iterations() -> None:
    prior = gaussian_vector_prior(6)
    z0 = clean(prior)

    def round_trip(accelerated: bool) -> float:
        trajectory = fixed_point_invert(
            z0, TIMESTEPS, prior, iterations=4, accelerated=accelerated, tolerance=0.0
        )
        return error(sampled(trajectory[0], prior), z0)

    assert round_trip(True) < round_trip(False)


@pytest.mark.parametrize("accelerated", [False, True])
def test_a_row_that_has_converged_does_not_wait_for_its_neighbours(accelerated: bool) -> None:
    prior = two_modes(6)
    z0 = clean(prior, 4)
    facts = {"iterations": 6, "accelerated": accelerated, "tolerance": 1e-3}
    together = fixed_point_invert(z0, TIMESTEPS, prior, **facts)
    others = torch.cat([z0[:1], 5 * normal(z0)[1:]])
    beside_others = fixed_point_invert(others, TIMESTEPS, prior, **facts)
    assert torch.equal(beside_others[:, 0], together[:, 0])


def test_spdinv_as_published_lowers_what_it_minimises() -> None:
    prior = two_modes(6)
    z0 = clean(prior)

    few = leading_timesteps(5)

    def residual(trajectory: Tensor) -> float:
        below = [*trajectory[1:], z0]
        steps = zip(rungs(prior, few), trajectory, below, strict=True)
        return sum(
            float((z - along(lower, prior.predict(z, r.t).eps, r.lower, r.upper)).square().mean())
            for r, z, lower in steps
        )

    assert residual(spd_invert(z0, few, prior)) < 0.9 * residual(ddim_invert(z0, few, prior))


@pytest.mark.parametrize("eta", [1.0, 0.4])
@pytest.mark.parametrize("chain", ["independent", "posterior"])
def test_edit_friendly_maps_lead_back_to_the_source(eta: float, chain: str) -> None:
    prior = two_modes(6)
    z0 = clean(prior)
    assert error(edited(EditFriendly(TIMESTEPS, prior, eta, chain), z0, prior), z0) < 1e-14


def test_with_posterior_chains_the_source_keeps_the_variance_of_its_level() -> None:
    """CycleDiffusion's states are draws of q(z_t | z0), whatever eta."""
    prior = gaussian_vector_prior(1)
    z0 = torch.full((20000, 1, 1, 1), 0.7, dtype=torch.float64)
    solver = EditFriendly(TIMESTEPS, prior, 0.5, "posterior")
    state = solver.start(z0, normal(z0), prior)
    state = solver.step(0, type(state)(**{**vars(state), "draws": ChainDraws(1)}), prior)
    at = level(prior, TIMESTEPS[1])
    assert float(state.source.var()) == pytest.approx(float(at.noise**2), rel=0.05)
    assert float(state.source.mean()) == pytest.approx(0.7 * float(at.signal), abs=0.03)


def test_ddcm_with_equal_prompts_leaves_the_source_alone() -> None:
    prior = two_modes(6)
    z0 = clean(prior)
    assert torch.equal(edited(Ddcm(TIMESTEPS, prior), z0, prior), z0)


def test_ddcm_carries_one_gaussian_onto_another() -> None:
    source = gaussian_vector_prior(6)
    target = VectorMixture(source.weights, source.means + 1.5, source.covariances)
    z0 = clean(source)
    found = edited(Ddcm(TIMESTEPS, source), z0, target)
    torch.testing.assert_close(found, z0 + 1.5, rtol=0, atol=1e-6)


class GaussianFlow:
    """N(mean, variance) as a rectified flow; timestep t is flow time t / 1000. Everything in closed form."""

    kind = "flow"
    complement = None
    noise_gain = 1.0
    alphas_cumprod = flow_alphas(torch.arange(1000, dtype=torch.float64) / 1000)
    final_alpha_cumprod = torch.ones((), dtype=torch.float64)

    def __init__(self, mean: float, variance: float) -> None:
        self.mean, self.variance = mean, variance

    def encode(self, x: Tensor) -> Tensor:
        return x

    decode = encode

    def predict(self, z: Tensor, t: int) -> Prediction:
        s = t / 1000
        off = z - (1 - s) * self.mean
        marginal = (1 - s) ** 2 * self.variance + s**2
        return Prediction(self.mean + (1 - s) * self.variance / marginal * off, s / marginal * off)

    def exact(self, z0: Tensor, t: int) -> Tensor:
        """Where the flow carries ``z0`` to."""
        s = t / 1000
        spread = ((1 - s) ** 2 * self.variance + s**2) ** 0.5 / self.variance**0.5
        return (1 - s) * self.mean + spread * (z0 - self.mean)


LATENT = normal(torch.empty(2, 1, 3, 3, dtype=torch.float64), 5)


@pytest.mark.parametrize("draws", [1, 3])
def test_flow_edit_with_equal_prompts_leaves_the_source_alone(draws: int) -> None:
    flow = GaussianFlow(0.2, 0.6)
    timesteps = tuple(range(800, 0, -100))
    for z0 in (LATENT, LATENT.float()):
        assert torch.equal(edited(FlowEdit(timesteps, flow, draws), z0, flow), z0)


@pytest.mark.parametrize("steps", [2, 10])
def test_flow_edit_carries_one_gaussian_onto_another_in_any_number_of_steps(steps: int) -> None:
    """Between Gaussians of equal width the edit's path is straight, so Euler steps follow it exactly. It
    begins at s = 0.999, the last entry of the table, a thousandth short of the whole shift."""
    source, target = GaussianFlow(0.2, 0.6), GaussianFlow(1.2, 0.6)
    timesteps = tuple(round(999 * (steps - i) / steps) for i in range(steps))
    found = edited(FlowEdit(timesteps, source, 2), LATENT, target)
    torch.testing.assert_close(found, LATENT + 1.0, rtol=0, atol=2e-3)


def test_flow_edit_of_plain_steps_alone_samples_the_target_from_the_noised_source() -> None:
    source, target = GaussianFlow(0.2, 0.6), GaussianFlow(1.2, 0.6)
    timesteps = tuple(range(800, 0, -100))
    z = recombine(LATENT, normal(LATENT), level(target, timesteps[0]))
    for rung in rungs(target, timesteps):
        z = along(z, target.predict(z, rung.t).eps, rung.upper, rung.lower)
    found = edited(FlowEdit(timesteps, source, plain=len(timesteps)), LATENT, target)
    torch.testing.assert_close(found, z)


def test_the_error_of_the_rf_solver_falls_at_least_with_the_square_of_the_step() -> None:
    flow = GaussianFlow(0.3, 0.2)
    errors = []
    for stride in (200, 100, 50):
        timesteps = tuple(range(800, 0, -stride))
        errors.append(error(rf_invert(LATENT, timesteps, flow)[0], flow.exact(LATENT, 800)))
    assert errors[0] > 3.5 * errors[1] > 3.5 * 3.5 * errors[2]


def test_the_rf_solver_returns_nearer_than_euler() -> None:
    flow = GaussianFlow(0.3, 0.2)
    timesteps = tuple(range(800, 0, -50))
    second = error(edited(RfEdit(timesteps, flow), LATENT, flow), LATENT)
    z = ddim_invert(LATENT, timesteps, flow)[0]
    for rung in rungs(flow, timesteps):
        z = along(z, flow.predict(z, rung.t).eps, rung.upper, rung.lower)
    assert second < 0.1 * error(z, LATENT)


def test_flow_methods_refuse_diffusions_and_the_other_way_round() -> None:
    diffusion, flow = two_modes(2), GaussianFlow(0.0, 1.0)
    z0 = clean(diffusion)
    for solver in (FlowEdit(TIMESTEPS, diffusion), RfEdit(TIMESTEPS, diffusion)):
        with pytest.raises(OperatorError, match="needs a flow model"):
            edited(solver, z0, diffusion)
    with pytest.raises(OperatorError, match="needs a diffusion model"):
        edited(EditFriendly((900, 500), flow), LATENT, flow)


def test_published_offsets_keep_the_source_on_its_trajectory() -> None:
    """Direct Inversion integrates the source under guidance and adds what is missing: the stored latents."""
    prior, guided = two_modes(6), gaussian_vector_prior(6, seed=4)
    z0 = clean(prior)
    trajectory = ddim_invert(z0, TIMESTEPS, prior)
    offsets = direct_offsets(z0, trajectory, TIMESTEPS, guided)
    z = trajectory[0]
    for i, rung in enumerate(rungs(guided, TIMESTEPS)):
        z = along(z, guided.predict(z, rung.t).eps, rung.upper, rung.lower) + offsets[i]
        torch.testing.assert_close(z, trajectory[i + 1] if i + 1 < len(TIMESTEPS) else z0)
