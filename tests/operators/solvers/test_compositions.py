"""What solvers are wrapped in, and the choices inside the longer ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from operators.closed_form.mixture import ChainDraws
from operators.degradations.inpainting import Inpainting
from operators.degradations.noise_models import PoissonNoise
from operators.degradations.registry import build_operator
from operators.degradations.video_inpainting import VideoInpainting
from operators.models import BoundPrior, LatentModel
from operators.noise import keyed_normal
from operators.solvers.base import Prediction, begin, restore
from operators.solvers.data_steps import data_loss, gradient_through_network
from operators.solvers.ddim import leading_timesteps
from operators.solvers.dreamsampler import DreamSampler, latent_hole
from operators.solvers.evaluations import CountingPrior
from operators.solvers.guidance import Branches
from operators.solvers.last_fit import LastFit
from operators.solvers.levels import level
from operators.solvers.likelihoods import gaussian_misfit, poisson_misfit
from operators.solvers.reddiff import WEIGHTINGS
from operators.solvers.reencode import NormalFit
from operators.solvers.registry import build_solver
from operators.solvers.resample import ReSample
from operators.solvers.treg import TReg
from operators.solvers.warm_start import WarmStart
from tests.support.gaussian_prior import GaussianPrior, smooth_gaussian_prior

H, W = 4, 6
HALVED = build_operator({"kind": "super_resolution", "scale": 2}, H, W, {})


def problem() -> tuple[GaussianPrior, Tensor, Tensor]:
    prior = smooth_gaussian_prior(H, W, torch.Generator().manual_seed(0))
    x = prior.draw(3, torch.Generator().manual_seed(1))
    return prior, x, HALVED.apply(x)


def noise_like(x: Tensor) -> Tensor:
    return ChainDraws(9).normal(x, 0, "start")


# --- warm start and last fit -------------------------------------------------------------------------


def test_a_warm_start_is_the_noised_classical_restoration_at_the_first_level() -> None:
    prior, x, y = problem()
    solver = build_solver({"name": "ldps", "steps": 20, "strength": 0.3}, HALVED, 0.0, prior)
    assert isinstance(solver, WarmStart)
    noise = noise_like(x)
    z = begin(solver, y, noise, prior).z
    at = level(prior, solver.timesteps[0])
    expected = at.signal * prior.encode(HALVED.classical(y).clamp(-1, 1)) + at.noise * noise
    torch.testing.assert_close(z, expected)
    assert solver.timesteps == leading_timesteps(20)[-6:]


def test_without_strength_a_sampler_starts_from_noise_as_published() -> None:
    prior, x, y = problem()
    for name in ("psld", "ldps", "resample", "treg", "diffpir", "ddnm"):
        solver = build_solver({"name": name, "steps": 10}, HALVED, 0.0, prior)
        assert torch.equal(begin(solver, y, noise_like(x), prior).z, noise_like(x)), name


def test_a_last_fit_makes_noiseless_data_reproduced_where_the_sampler_left_a_residual() -> None:
    prior, x, y = problem()
    spec = {"name": "treg", "steps": 30}
    rests = []
    for last in (False, True):
        solver = build_solver({**spec, "last_fit": last}, HALVED, 0.0, prior)
        assert isinstance(solver, LastFit) == last
        found = restore(solver, y, noise_like(x), prior, ChainDraws(1))
        rests.append(float((HALVED.apply(found) - y).abs().max()))
    assert rests[1] < 0.05 * rests[0]


def test_the_dps_steps_of_treg_hold_the_data_after_its_last_fit() -> None:
    prior, x, y = problem()
    fit = NormalFit(HALVED)
    timesteps = leading_timesteps(30)
    rests = []
    for dps in (False, True):
        found = restore(TReg(fit, timesteps, 3, 15, dps), y, noise_like(x), prior, ChainDraws(1))
        rests.append(float((HALVED.apply(found) - y).norm()))
    assert rests[1] < rests[0]


def test_the_dps_steps_of_treg_are_unconditional() -> None:
    plain, x, y = problem()
    solver = TReg(NormalFit(HALVED), leading_timesteps(6), 3, 6, dps=True)
    moved = []
    for idea in (0.0, 1.0):
        prior = PromptedPrior(plain, idea)
        with torch.no_grad():
            state = begin(solver, y, noise_like(x), prior, ChainDraws(1))
            moved.append(solver.step(1, state, prior).z)
    assert torch.equal(*moved)


# --- ReSample ----------------------------------------------------------------------------------------


def test_resample_fits_in_pixels_in_the_middle_third_and_in_latents_in_the_last() -> None:
    prior, x, y = problem()
    solver = ReSample(HALVED, leading_timesteps(30), every=5, travel=0, goal=1e-5)
    counting = CountingPrior(prior)
    encodes = []
    with torch.no_grad():
        state = begin(solver, y, noise_like(x), counting, ChainDraws(1))
        for i in range(30):
            before = counting.evaluations.encode
            state = solver.step(i, state, counting)
            encodes.append((counting.evaluations.encode - before) // len(x))
    assert [i for i, count in enumerate(encodes) if count] == [10, 15]
    found = solver.finish(state, prior)
    assert float((HALVED.apply(found) - y).square().mean()) < 1e-3


def test_travelling_refines_the_estimate_by_further_evaluations() -> None:
    prior, x, y = problem()
    solver = ReSample(HALVED, leading_timesteps(30), every=5, travel=3)
    counting = CountingPrior(prior)
    with torch.no_grad():
        state = begin(solver, y, noise_like(x), prior, ChainDraws(1))
        z0 = solver.travelled(9, state.z, state.z, counting)
        assert counting.evaluations.forward == 3 * len(x)
        assert torch.equal(solver.travelled(29, state.z, state.z, prior), state.z)
    assert z0.shape == x.shape


# --- DreamSampler ------------------------------------------------------------------------------------


@dataclass
class PromptedPrior:
    """A Gaussian prior whose prompt moves every clean latent by ``idea``; identity autoencoder."""

    plain: GaussianPrior
    idea: float

    def __getattr__(self, name: str):
        return getattr(self.plain, name)

    def predict(self, z: Tensor, t: int) -> Prediction:
        return self.branches(z, t).cond

    def branches(self, z: Tensor, t: int) -> Branches:
        uncond = self.plain.predict(z, t)
        return Branches(uncond, Prediction(uncond.z0 + self.idea, uncond.eps))


def test_the_prompt_enters_the_hole_and_nothing_else() -> None:
    plain = smooth_gaussian_prior(H, W, torch.Generator().manual_seed(0))
    plain.rotation = torch.eye(len(plain.mean), dtype=torch.float64)
    mask = torch.ones(H, W, dtype=torch.bool)
    mask[1:3, 2:4] = False
    operator = Inpainting(mask.numpy())
    x = plain.draw(1, torch.Generator().manual_seed(1))
    solver = DreamSampler(NormalFit(operator, 1e-4, 10), leading_timesteps(3), every=1)
    moved = []
    for idea in (0.0, 1.0):
        prior = PromptedPrior(plain, idea)
        state = begin(solver, operator.apply(x), noise_like(x), prior, ChainDraws(1))
        moved.append(solver.step(0, state, prior).z0)
    change = (moved[1] - moved[0]).abs()
    assert float(change[..., mask].max()) == 0.0
    assert float(change[..., ~mask].min()) > 0.0


def test_a_latent_cell_is_a_hole_when_more_than_half_of_it_is_missing() -> None:
    mask = torch.ones(8, 8, dtype=torch.bool)
    mask[:4, :4] = False
    mask[4:6, 4:6] = False
    hole = latent_hole(Inpainting(mask.numpy()), torch.zeros(1, 4, 2, 2))
    assert hole[0, 0].tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert latent_hole(HALVED, torch.zeros(1, 4, 2, 2)) is None
    masks = torch.ones(2, *mask.shape)
    masks[1] = mask
    moving = latent_hole(VideoInpainting(masks.numpy()), torch.zeros(2, 4, 2, 2))
    assert moving.shape == (2, 1, 2, 2)
    assert torch.equal(moving[1:], hole)
    assert not moving[0].any()


# --- RED-diff ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"), [("linear", 2.0), ("sqrt", 2.0**0.5), ("square", 4.0), ("const", 1.0)]
)
def test_the_prior_of_red_diff_is_weighed_by_a_power_of_the_noise_to_signal_ratio(
    name: str, expected: float
) -> None:
    assert float(WEIGHTINGS[name](torch.tensor(2.0))) == pytest.approx(expected)


# --- choices of the registry -------------------------------------------------------------------------


def test_shot_noise_chooses_the_poisson_likelihood() -> None:
    prior, _, _ = problem()
    counted = HALVED.with_noise(PoissonNoise(50.0))
    assert build_solver({"name": "ldps"}, counted, 0.1, prior).likelihood is poisson_misfit
    assert build_solver({"name": "ldps"}, HALVED, 0.1, prior).likelihood is gaussian_misfit


def test_a_sampler_with_poisson_likelihood_fits_bright_and_dark_counts() -> None:
    prior, x, _ = problem()
    operator = build_operator({"kind": "shot_noise", "peak": 255}, H, W, {})
    y = operator.simulate(x.clamp(-0.9, 0.9), [("row", i) for i in range(3)])
    solver = build_solver({"name": "ldps", "steps": 100, "scale": 0.05}, operator, 0.1, prior)
    found = restore(solver, y, noise_like(x), prior, ChainDraws(1))
    without = restore(replace(solver, scale=0.0), y, noise_like(x), prior, ChainDraws(1))
    assert float((found - y).square().mean()) < 0.3 * float((without - y).square().mean())


# --- memory ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedded() -> LatentModel:
    return LatentModel.from_pretrained("embedded")


def test_recomputing_in_the_backward_pass_keeps_less_and_gives_the_same_gradient(
    embedded: LatentModel,
) -> None:
    prior = BoundPrior(embedded)
    operator = build_operator({"kind": "super_resolution", "scale": 2}, 64, 64, {})
    z, y = keyed_normal((1, 12, 16, 16), "z"), torch.zeros(1, 3, 32, 32)
    gradients, kept = [], []
    for on in (False, True):
        embedded.recompute_in_backward(on)
        saved = SavedBytes()
        with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
            loss = data_loss(operator, y, prior, gaussian_misfit)
            gradients.append(gradient_through_network(z, 500, prior, loss)[1])
        kept.append(saved.largest)
    embedded.recompute_in_backward(False)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)
    assert kept[1] < 0.6 * kept[0]


class SavedBytes:
    """Counts what autograd keeps of the forward pass outside recomputed blocks."""

    def __init__(self) -> None:
        self.largest = 0

    def pack(self, tensor: Tensor) -> Tensor:
        self.largest += tensor.numel() * tensor.element_size()
        return tensor
