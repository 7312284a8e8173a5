"""The kernels that solvers are composed of: conversions, step rules, guidance, data steps."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, LCMScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from operators.closed_form.mixture import gaussian_vector_prior, orthonormal_measurement
from operators.noise import FrameDraws
from operators.solvers.base import Prediction
from operators.solvers.data_steps import (
    adam,
    first_picture,
    gradient_at_estimate,
    minimise,
    normal_equations,
    project,
)
from operators.solvers.guidance import Branches, Guided, cfgpp, equivalent_cfg_weight, mixed
from operators.solvers.guided_inversion import guided_invert
from operators.solvers.levels import (
    AlphaShift,
    Level,
    diffusion_level,
    flow_alphas,
    flow_level,
    level,
    next_level,
)
from operators.solvers.likelihoods import gaussian_misfit, poisson_misfit, released_poisson_misfit
from operators.solvers.parametrisation import PARAMETRISATIONS, from_velocity, score
from operators.solvers.resample import stochastic_resample
from operators.solvers.step_rules import ancestral, ddim, lcm_denoised, recombine, renoise
from tests.support.gaussian_prior import stable_diffusion_alphas

TABLE = stable_diffusion_alphas()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network_output(name: str, z0: Tensor, eps: Tensor, at: Level) -> Tensor:
    """What an ideal network of each kind would say."""
    return {
        "epsilon": eps,
        "sample": z0,
        "v_prediction": at.signal * eps - at.noise * z0,
        "flow_prediction": eps - z0,
    }[name]


@pytest.mark.parametrize("name", PARAMETRISATIONS)
@given(t=st.integers(0, 999), seed=st.integers(0, 100))
def test_a_network_of_any_kind_gives_back_the_latent_and_noise_it_was_shown(
    name: str, t: int, seed: int
) -> None:
    at = flow_level(torch.tensor((t + 1) / 1001).double()) if name == "flow_prediction" else None
    at = at or diffusion_level(TABLE[t])
    z0, eps = normal(2, 4, 3, 3, seed=seed), normal(2, 4, 3, 3, seed=seed + 1000)
    z = recombine(z0, eps, at)
    prediction = PARAMETRISATIONS[name](z, network_output(name, z0, eps, at), at)
    torch.testing.assert_close(prediction.z0, z0, rtol=0, atol=1e-10)
    torch.testing.assert_close(prediction.eps, eps, rtol=0, atol=1e-10)


def test_velocity_is_finite_where_no_signal_is_left() -> None:
    at = diffusion_level(torch.zeros((), dtype=torch.float64))
    prediction = from_velocity(normal(1, 2), normal(1, 2, seed=1), at)
    assert torch.isfinite(prediction.z0).all()
    torch.testing.assert_close(prediction.eps, normal(1, 2))


@given(s=st.floats(0.001, 0.999))
def test_a_flow_and_the_diffusion_of_its_signal_to_noise_ratio_differ_by_a_factor_alone(s: float) -> None:
    time = torch.tensor(s, dtype=torch.float64)
    flow, diffusion = flow_level(time), diffusion_level(flow_alphas(time))
    size = (flow.signal**2 + flow.noise**2).sqrt()
    torch.testing.assert_close(flow.signal / size, diffusion.signal, rtol=1e-12, atol=0)
    torch.testing.assert_close(flow.noise / size, diffusion.noise, rtol=1e-9, atol=0)
    torch.testing.assert_close(flow.flow_time, time)


def test_the_euler_step_of_a_flow_is_that_of_diffusers() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(10)
    here, there = (scheduler.sigmas[i].double() for i in (3, 4))
    z, v = normal(1, 4, 5, 5), normal(1, 4, 5, 5, seed=1)
    prediction = PARAMETRISATIONS["flow_prediction"](z, v, flow_level(here))
    ours = recombine(prediction.z0, prediction.eps, flow_level(there))
    theirs = scheduler.step(v, scheduler.timesteps[3], z).prev_sample
    torch.testing.assert_close(ours, theirs.double(), rtol=0, atol=1e-6)


def test_the_ancestral_mean_is_that_of_diffusers() -> None:
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", clip_sample=False, variance_type="fixed_small")
    table = scheduler.alphas_cumprod.double()
    z, eps = normal(1, 4, 5, 5), normal(1, 4, 5, 5, seed=1)
    here, there = diffusion_level(table[500]), diffusion_level(table[499])
    prediction = PARAMETRISATIONS["epsilon"](z, eps, here)
    coefficient = ancestral(z, prediction, here, there, torch.ones_like(z)) - ancestral(
        z, prediction, here, there, None
    )
    torch.testing.assert_close(
        coefficient.mean() ** 2, scheduler._get_variance(500).double(), rtol=1e-4, atol=0
    )
    quiet = scheduler.step(eps, 500, z, generator=torch.Generator().manual_seed(3)).prev_sample
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(3), dtype=z.dtype)
    torch.testing.assert_close(
        ancestral(z, prediction, here, there, noise), quiet.double(), rtol=0, atol=1e-5
    )


@given(i=st.integers(0, 900), j=st.integers(1, 90))
def test_ddim_with_eta_one_is_ancestral_sampling(i: int, j: int) -> None:
    here, there = diffusion_level(TABLE[i + j]), diffusion_level(TABLE[i])
    z, eps, fresh = (normal(1, 3, seed=k) for k in range(3))
    prediction = PARAMETRISATIONS["epsilon"](z, eps, here)
    ours = ddim(prediction, here, there, fresh, 1.0)
    torch.testing.assert_close(ours, ancestral(z, prediction, here, there, fresh), rtol=0, atol=1e-9)


def test_the_boundary_condition_of_consistency_models_is_that_of_diffusers() -> None:
    scheduler = LCMScheduler()
    scheduler.set_timesteps(4)
    for t in (1, 259, 999):
        skip, out = scheduler.get_scalings_for_boundary_condition_discrete(t)
        ours = lcm_denoised(torch.ones(1).double(), torch.zeros(1).double(), t)
        assert float(ours) == pytest.approx(float(skip), rel=1e-6)
        assert float(lcm_denoised(torch.zeros(1), torch.ones(1), t)) == pytest.approx(float(out), rel=1e-6)


@given(share=st.floats(0.0, 1.0), t=st.integers(1, 999))
def test_renoising_preserves_the_variance_for_any_share_of_fresh_noise(share: float, t: int) -> None:
    there = diffusion_level(TABLE[t])
    count = 20000
    eps, fresh = normal(count, 1, seed=1), normal(count, 1, seed=2)
    noise = renoise(torch.zeros_like(eps), eps, fresh, there, share) / there.noise
    assert float(noise.var()) == pytest.approx(1.0, abs=0.06)


def test_a_shifted_table_reads_one_entry_earlier_and_begins_without_noise() -> None:
    prior = gaussian_vector_prior(4)
    shifted = AlphaShift(prior)
    assert float(shifted.alphas_cumprod[0]) == 1.0
    assert float(level(shifted, 500).ab) == float(prior.alphas_cumprod[499])
    assert shifted.noise_gain == prior.noise_gain
    # At t = 1 both levels are the same: the last step of the KAIST samplers leaves z alone.
    assert float(level(shifted, 1).ab) == float(next_level(shifted, (1,), 0).ab)


# --- guidance ----------------------------------------------------------------------------------------


def branches(at: Level, z: Tensor) -> Branches:
    u, c = normal(*z.shape, seed=5), normal(*z.shape, seed=6)
    return Branches(*(PARAMETRISATIONS["epsilon"](z, eps, at) for eps in (u, c)))


@given(weight=st.floats(0.05, 1.0), i=st.integers(1, 900), j=st.integers(10, 90))
def test_cfgpp_is_classifier_free_guidance_of_another_weight_at_each_step(
    weight: float, i: int, j: int
) -> None:
    here, there = diffusion_level(TABLE[i + j]), diffusion_level(TABLE[i])
    both = branches(here, normal(1, 8))
    plus = cfgpp(both, weight)
    plain = mixed(both, equivalent_cfg_weight(weight, here, there))
    torch.testing.assert_close(
        recombine(plus.z0, plus.eps, there), recombine(plain.z0, plain.eps, there), rtol=0, atol=1e-9
    )


def test_cfgpp_inversion_is_undone_by_sampling_when_the_network_says_the_same() -> None:
    class Frozen:
        alphas_cumprod, final_alpha_cumprod = TABLE, TABLE[0]

        def branches(self, z: Tensor, t: int) -> Branches:
            at = diffusion_level(TABLE[t])
            u, c = normal(1, 8, seed=t), normal(1, 8, seed=t + 5000)
            return Branches(*(PARAMETRISATIONS["epsilon"](z, eps, at) for eps in (u, c)))

    prior, timesteps, z0 = Frozen(), (801, 601, 401, 201, 1), normal(1, 8)
    z = guided_invert(z0, timesteps, prior, 0.6)[-1]
    guided = Guided(prior, 0.6, "cfgpp")
    for i, t in enumerate(timesteps):
        prediction = guided.predict(z, t)
        z = recombine(prediction.z0, prediction.eps, next_level(prior, timesteps, i))
    torch.testing.assert_close(z, z0, rtol=0, atol=1e-12)


def test_equal_branches_need_no_arithmetic() -> None:
    one = Prediction(normal(1, 2), normal(1, 2, seed=1))
    assert mixed(Branches(one, one), 7.5) is one


# --- data steps --------------------------------------------------------------------------------------


def test_our_adam_is_that_of_torch() -> None:
    ours = theirs = normal(2, 3)
    theirs = theirs.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99))
    mean = power = torch.zeros_like(ours)
    for n in range(1, 6):
        optimiser.zero_grad()
        theirs.pow(4).sum().backward()
        optimiser.step()
        ours, mean, power = adam(ours, 4 * ours**3, mean, power, n, 0.1, (0.9, 0.99))
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-6, atol=1e-7)


def test_conjugate_gradients_solve_the_normal_equations_of_rows_and_of_a_whole_clip() -> None:
    operator = orthonormal_measurement(8, 4)
    x, y = normal(3, 8, 1, 1), normal(3, 4, 1, 1, seed=1)
    A = operator.matrix
    exact = torch.linalg.solve(A.T @ A + 0.5 * torch.eye(8), (operator.adjoint(y) + 0.5 * x).flatten(1).T).T
    for joint in (False, True):
        solved = normal_equations(operator, x, y, 0.5, 50, 1e-12, joint=joint)
        torch.testing.assert_close(solved.flatten(1), exact, rtol=0, atol=1e-10)


def test_projection_measures_exactly_and_keeps_the_null_space() -> None:
    operator = orthonormal_measurement(8, 4)
    x, y = normal(2, 8, 1, 1), normal(2, 4, 1, 1, seed=1)
    moved = project(operator, x, y)
    torch.testing.assert_close(operator.apply(moved), y)
    null = torch.linalg.svd(operator.matrix).Vh[4:]
    torch.testing.assert_close(moved.flatten(1) @ null.T, x.flatten(1) @ null.T)
    torch.testing.assert_close(first_picture(operator, y), operator.pinv(y))


def test_a_row_that_has_reached_its_goal_stays_while_others_go_on() -> None:
    start = torch.tensor([[0.0], [5.0]], dtype=torch.float64)
    done = minimise(start, lambda z: z.square().sum(1), iterations=400, rate=0.05, goal=1e-6)
    assert float(done[0, 0]) == 0.0
    assert abs(float(done[1, 0])) < 2e-3


def test_a_row_stops_when_its_loss_grows_over_the_patience() -> None:
    # Adam with a rate far above the scale overshoots at once.
    start = torch.full((1, 1), 0.1, dtype=torch.float64)
    calls = []

    def loss(z: Tensor) -> Tensor:
        calls.append(1)
        return z.square().sum(1)

    minimise(start, loss, iterations=100, rate=5.0, patience=1)
    assert len(calls) < 10


@given(rows=st.integers(0, 5))
def test_slices_of_a_gradient_are_the_gradient(rows: int) -> None:
    z = normal(5, 3)
    weights = torch.arange(5).double()

    def loss(part_of_z: Tensor, part: slice) -> Tensor:
        return weights[part] * part_of_z.pow(3).sum(1)

    expected = 3 * weights[:, None] * z.square()
    torch.testing.assert_close(gradient_at_estimate(z, loss, rows), expected)


def test_a_poisson_likelihood_weighs_dark_pixels_more_and_mid_grey_explodes_as_released() -> None:
    y = torch.tensor([[-0.9], [0.0], [0.9]], dtype=torch.float64)
    off = y + 0.05
    dark, grey, bright = poisson_misfit(off, y).tolist()
    assert dark > grey > bright
    counts = (y + 1) / 2 * 255
    expected = (0.05 / 2 * 255) / (2 * counts).sqrt()
    torch.testing.assert_close(poisson_misfit(off, y), expected[:, 0], rtol=1e-6, atol=0)
    released = released_poisson_misfit(off, y)
    assert float(released[1]) > 100 * float(released[0])
    assert float(gaussian_misfit(off, y)[0]) == pytest.approx(0.05, rel=1e-6)


def test_the_gradient_of_a_norm_is_finite_at_zero_misfit() -> None:
    leaf = torch.zeros(1, 3, requires_grad=True)
    gaussian_misfit(leaf, torch.zeros(1, 3)).sum().backward()
    assert torch.equal(leaf.grad, torch.zeros(1, 3))


def test_stochastic_resampling_draws_from_the_product_of_two_gaussians() -> None:
    ab, sigma = 0.6, 1.7
    fitted, z, noise = (normal(50000, seed=k) for k in range(3))
    fitted, z = fitted[:1].expand(50000), z[:1].expand(50000)
    drawn = stochastic_resample(fitted, z, torch.tensor(ab).double(), sigma, noise)
    precision = 1 / (1 - ab) + 1 / sigma
    mean = (float(ab**0.5 * fitted[0]) / (1 - ab) + float(z[0]) / sigma) / precision
    assert float(drawn.mean()) == pytest.approx(mean, abs=0.02)
    assert float(drawn.var()) == pytest.approx(1 / precision, rel=0.03)


def test_the_score_points_from_noise_to_the_data() -> None:
    prior = gaussian_vector_prior(6)
    z = normal(1, 6, 1, 1)
    at = level(prior, 500)
    marginal = at.ab * prior.covariances[0] + (1 - at.ab) * torch.eye(6, dtype=torch.float64)
    exact = -torch.linalg.solve(marginal, z.flatten() - at.signal * prior.means[0])
    torch.testing.assert_close(score(prior.predict(z, 500), at).flatten(), exact, rtol=1e-9, atol=1e-12)


# --- draws -------------------------------------------------------------------------------------------


def draws(frames: tuple[int, ...], rho: float, prefix: str = "stage 0") -> FrameDraws:
    return FrameDraws(seed=1, source_digest="a", scene=0, frames=frames, rho=rho, prefix=prefix)


def test_a_frames_draw_depends_on_frame_step_purpose_and_stage_alone() -> None:
    like = torch.zeros(2, 4, 8, 8)
    both = draws((3, 4), 0.5).normal(like, 2, "renoise")
    swapped = draws((4, 3), 0.5).normal(like, 2, "renoise")
    assert torch.equal(both[0], swapped[1])
    assert torch.equal(both, draws((3, 4), 0.5).normal(like, 2, "renoise"))
    others = [
        draws((3, 4), 0.5).normal(like, 1, "renoise"),
        draws((3, 4), 0.5).normal(like, 2, "probe"),
        draws((3, 4), 0.5, "stage 1").normal(like, 2, "renoise"),
        swapped,
    ]
    assert not any(torch.equal(both, other) for other in others)


@pytest.mark.parametrize("rho", [0.0, 0.6, 1.0])
def test_frames_of_a_scene_share_as_much_noise_as_the_policy_says(rho: float) -> None:
    drawn = draws((0, 1), rho).normal(torch.zeros(2, 4, 64, 64), 0, "renoise").flatten(1)
    assert float((drawn[0] * drawn[1]).mean()) == pytest.approx(rho, abs=0.03)
    assert float(drawn.var()) == pytest.approx(1.0, abs=0.03)
