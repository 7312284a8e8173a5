"""PSLD against the published implementation and its closed-form facts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from operators.degradations.registry import build_operator
from operators.degradations.super_resolution import AreaDownsampling
from operators.solvers.base import State
from operators.solvers.psld import Psld, psld_losses
from operators.solvers.registry import build_solver
from tests.support.gaussian_prior import smooth_gaussian_prior
from tests.support.golden_networks import GoldenPrior, golden_prior
from tests.support.shared import golden


@pytest.fixture(scope="module")
def case() -> tuple[dict[str, Tensor], GoldenPrior, Psld, float]:
    tensors, facts = golden("psld_a")
    hparams = facts["hparams"]
    prior = golden_prior(tensors, facts, guidance=hparams["cfg"])
    operator = AreaDownsampling(16, 16, facts["operator"]["factor"])
    spec = {"name": "psld", "steps": 20, "omega": hparams["omega"], "gamma": hparams["gamma"]}
    method = build_solver(spec, operator, hparams["sigma_y"], prior)
    assert isinstance(method, Psld)
    return tensors, prior, method, facts["tolerance"]["default"]


def assert_matches(ours: Tensor, reference: Tensor, tolerance: float) -> None:
    assert (ours - reference).abs().max() <= tolerance * reference.abs().max()


def test_the_timesteps_are_those_of_the_published_run(case) -> None:
    tensors, _, method, _ = case
    assert list(method.timesteps) == tensors["timesteps"].tolist()


def test_each_step_reproduces_the_published_one_from_the_published_state(case) -> None:
    tensors, prior, method, tolerance = case
    latents = tensors["out/latents"]
    befores = torch.cat([tensors["z_init"][None], latents[:-1]])
    scale = latents.abs().max()
    for i, (before, after) in enumerate(zip(befores, latents, strict=True)):
        ours = method.step(i, State(z=before, y=tensors["y"]), prior).z
        assert (ours - after).abs().max() <= tolerance * scale, f"step {i}"
        z0 = prior.predict(before, method.timesteps[i]).z0
        assert_matches(z0, tensors["out/z0"][i], tolerance)


def test_the_whole_run_reproduces_the_published_one(case) -> None:
    tensors, prior, method, tolerance = case
    state = method.start(tensors["y"], tensors["z_init"], prior)
    trajectory = []
    with torch.no_grad():
        for i in range(len(method.timesteps)):
            state = method.step(i, state, prior)
            trajectory.append(state.z)
        image = method.finish(state, prior)
    assert_matches(torch.stack(trajectory), tensors["out/latents"], tolerance)
    assert_matches(image, tensors["out/image"], tolerance)


def test_both_losses_vanish_at_the_truth_for_an_exact_autoencoder() -> None:
    prior = smooth_gaussian_prior(4, 6, torch.Generator().manual_seed(0))
    operator = build_operator({"kind": "super_resolution", "scale": 2}, 4, 6, {})
    x = prior.draw(3, torch.Generator().manual_seed(1))
    measurement, glue = psld_losses(prior.encode(x), operator.apply(x), prior, operator)
    # per_sample_norm floors at 1e-6.
    assert measurement.max() < 2e-6
    assert glue.max() < 2e-6


def test_gluing_is_blind_to_what_the_operator_does_not_measure_and_sees_the_rest() -> None:
    prior = smooth_gaussian_prior(4, 6, torch.Generator().manual_seed(0))
    operator = build_operator({"kind": "super_resolution", "scale": 2}, 4, 6, {})
    x = prior.draw(1, torch.Generator().manual_seed(1))
    other = prior.draw(1, torch.Generator().manual_seed(2))
    unseen = other - operator.pinv(operator.apply(other))
    seen = other - unseen
    y = operator.apply(x)
    assert psld_losses(prior.encode(x + unseen), y, prior, operator)[1].max() < 2e-6
    glue = psld_losses(prior.encode(x + seen), y, prior, operator)[1]
    torch.testing.assert_close(glue, seen.flatten(1).norm(dim=1), rtol=1e-6, atol=0)


def test_a_batch_of_two_gives_the_same_as_two_batches_of_one() -> None:
    generator = torch.Generator().manual_seed(3)
    prior = smooth_gaussian_prior(4, 6, generator)
    operator = build_operator({"kind": "inpainting", "boxes": [[1, 1, 2, 2]]}, 4, 6, {})
    method = build_solver({"name": "psld", "steps": 12}, operator, 0.05, prior)
    y = operator.apply(prior.draw(2, generator))
    y[1] *= 5.0
    noise = torch.randn(2, 3, 4, 6, dtype=torch.float64, generator=generator)

    def run(rows: slice) -> Tensor:
        state = method.start(y[rows], noise[rows], prior)
        for i in range(len(method.timesteps)):
            state = method.step(i, state, prior)
        return method.finish(state, prior)

    torch.testing.assert_close(run(slice(0, 2)), torch.cat([run(slice(0, 1)), run(slice(1, 2))]))


def test_the_step_works_under_no_grad_and_returns_a_detached_state() -> None:
    generator = torch.Generator().manual_seed(4)
    prior = smooth_gaussian_prior(4, 6, generator)
    operator = build_operator({"kind": "denoise"}, 4, 6, {})
    method = build_solver({"name": "psld", "steps": 5}, operator, 0.1, prior)
    y = prior.draw(1, generator)
    with torch.no_grad():
        state = method.step(0, method.start(y, torch.zeros_like(y), prior), prior)
    assert not state.z.requires_grad
