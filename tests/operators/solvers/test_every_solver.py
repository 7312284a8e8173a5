"""What every solver of the registry does: restore with the embedded model, treat rows alone, cost what it
says, and refuse what it cannot do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.degradations.registry import build_operator, measurement_sigma
from operators.errors import OperatorError
from operators.metrics.fidelity import psnr
from operators.models import BoundPrior, LatentModel
from operators.noise import FrameDraws, keyed_normal
from operators.solvers.base import LatentPrior, begin, restore
from operators.solvers.evaluations import CountingPrior, Evaluations
from operators.solvers.registry import METHODS, build_solver, solvers_for
from tests.support.tiny_models import save_tiny_bridge, save_tiny_few_step, save_tiny_flow

SIDE = 64
SHARPEN = {"kind": "super_resolution", "scale": 2, "noise": 0.1}
STEADY = {"kind": "deblur", "kernel": "motion", "length": 7, "angle": 30.0, "noise": 0.05}
FEW = {"steps": 20, "strength": 0.2, "last_fit": True}
#: Few steps of every solver that runs on the embedded model, a diffusion.
QUICK = {
    "dpir": {},
    "psld": FEW,
    "ldps": FEW,
    "dps_nojac": FEW,
    "stsl": {"steps": 10, "strength": 0.2, "averages": 2, "last_fit": True},
    "resample": {"steps": 10, "strength": 0.3, "every": 2, "last_fit": True},
    "reddiff": FEW,
    "treg": FEW,
    "dreamsampler": FEW,
    "diffpir": FEW,
    "ddnm": FEW,
    "video_latent": FEW,
    "svi": FEW,
    "blind_dps": FEW,
}


@pytest.fixture(scope="module")
def embedded() -> BoundPrior:
    torch.set_num_threads(1)
    return BoundPrior(LatentModel.from_pretrained("embedded"))


def pictures(rows: int) -> Tensor:
    """Smooth coloured blobs with a hard edge each, [rows, 3, SIDE, SIDE] in [-1, 1]."""
    coarse = torch.rand(rows, 3, 5, 5, generator=torch.Generator().manual_seed(7))
    x = torch.nn.functional.interpolate(coarse, SIDE, mode="bicubic").clamp(0, 1)
    for row in range(rows):
        x[row, :, 20 + 4 * row : 34, 12:52] = coarse[row, :, :1, :1]
    return x * 1.6 - 0.8


def degradation_of(name: str) -> dict:
    return STEADY if name == "blind_dps" else SHARPEN


@dataclass
class Problem:
    operator: ForwardOperator
    sigma: float
    x: Tensor
    y: Tensor


def problem(name: str, rows: int) -> Problem:
    spec = degradation_of(name)
    operator, sigma = build_operator(spec, SIDE, SIDE, {}), measurement_sigma(spec)
    x = pictures(rows)
    clean = operator.apply(x)
    return Problem(operator, sigma, x, clean + sigma * keyed_normal(tuple(clean.shape), "measured"))


def draws(frames: tuple[int, ...]) -> FrameDraws:
    return FrameDraws(seed=3, source_digest="clip", scene=0, frames=frames, rho=0.8, prefix="test")


def start_noise(frames: tuple[int, ...]) -> Tensor:
    return torch.stack([keyed_normal((12, SIDE // 4, SIDE // 4), "start", f) for f in frames])


def test_no_solver_of_the_registry_goes_untested() -> None:
    assert set(QUICK) | {"latino", "lvtino", "flowchef", "flowdps", "cddb"} == set(METHODS)


@pytest.mark.parametrize("name", QUICK)
def test_it_restores_better_than_doing_nothing_with_the_embedded_model(
    name: str, embedded: BoundPrior
) -> None:
    given = problem(name, 1)
    solver = build_solver({"name": name, **QUICK[name]}, given.operator, given.sigma, embedded)
    restored = restore(solver, given.y, start_noise((0,)), embedded, draws((0,)))
    nothing = torch.nn.functional.interpolate(given.y, SIDE, mode="nearest")
    gain = psnr(restored.clamp(-1, 1), given.x, 2.0) - psnr(nothing.clamp(-1, 1), given.x, 2.0)
    assert float(gain) > 1.0


@pytest.mark.parametrize("name", QUICK)
def test_a_row_is_the_same_bits_whatever_its_neighbour_is(name: str, embedded: BoundPrior) -> None:
    given = problem(name, 3)
    solver = build_solver({"name": name, **QUICK[name]}, given.operator, given.sigma, embedded)

    def first_steps(rows: list[int]) -> Tensor:
        frames = tuple(rows)
        with torch.no_grad():
            state = begin(solver, given.y[rows], start_noise(frames), embedded, draws(frames))
            state = solver.step(0, state, embedded)
            return state.z if len(solver.timesteps) == 1 else solver.step(1, state, embedded).z

    assert torch.equal(first_steps([0, 1])[0], first_steps([0, 2])[0])


#: Evaluations per picture of one step, by the definitions of the methods.
PER_STEP = {
    "dpir": Evaluations(forward=1, encode=1, decode=1),
    "psld": Evaluations(forward=1, backward=1, encode=1, decode=1, encode_back=1, decode_back=1),
    "ldps": Evaluations(forward=1, backward=1, decode=1, decode_back=1),
    "dps_nojac": Evaluations(forward=1, decode=1, decode_back=1),
    "stsl": Evaluations(forward=5, backward=4, decode=2, decode_back=2),
    "reddiff": Evaluations(forward=1, decode=1, decode_back=1),
    "treg": Evaluations(forward=1, encode=1, decode=1),
    "dreamsampler": Evaluations(forward=1, encode=1, decode=1),
    "diffpir": Evaluations(forward=1, encode=1, decode=1),
    "ddnm": Evaluations(forward=1, encode=1, decode=1),
    "video_latent": Evaluations(forward=1, encode=1, decode=1),
    "svi": Evaluations(forward=1, encode=1, decode=1),
    "blind_dps": Evaluations(forward=1, backward=1, decode=1, decode_back=1),
    "resample": Evaluations(forward=1, backward=1, decode=1, decode_back=1),
}


@pytest.mark.parametrize("name", PER_STEP)
def test_a_step_costs_what_the_method_says(name: str, embedded: BoundPrior) -> None:
    given = problem(name, 2)
    solver = build_solver({"name": name, **QUICK[name]}, given.operator, given.sigma, embedded)
    counting = CountingPrior(embedded)
    with torch.no_grad():
        state = begin(solver, given.y, start_noise((0, 1)), counting, draws((0, 1)))
        counting.evaluations = Evaluations()
        solver.step(0, state, counting)
    per_picture = {field: count / 2 for field, count in vars(counting.evaluations).items()}
    assert per_picture == vars(PER_STEP[name])


def test_slices_bound_the_decoder_and_change_nothing_else(embedded: BoundPrior) -> None:
    given = problem("psld", 3)
    frames = (0, 1, 2)
    results = []
    for rows in ({}, {"rows": 1}):
        solver = build_solver({"name": "psld", **FEW, **rows}, given.operator, given.sigma, embedded)
        largest = LargestDecode(embedded)
        with torch.no_grad():
            state = begin(solver, given.y, start_noise(frames), largest, draws(frames))
            largest.rows = 0
            results.append(solver.step(0, state, largest).z)
        assert largest.rows == (1 if rows else 3)
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


class LargestDecode(CountingPrior):
    """Remembers the most rows decoded in one call."""

    rows = 0

    def decode(self, z: Tensor) -> Tensor:
        self.rows = max(self.rows, len(z))
        return super().decode(z)


def test_a_stochastic_solver_without_a_noise_source_says_how_to_give_one(embedded: BoundPrior) -> None:
    given = problem("diffpir", 1)
    solver = build_solver({"name": "diffpir", **FEW}, given.operator, given.sigma, embedded)
    with pytest.raises(OperatorError, match="NoiseSource"):
        restore(solver, given.y, start_noise((0,)), embedded)


# --- models of other kinds ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def consistency(tmp_path_factory: pytest.TempPathFactory) -> BoundPrior:
    folder = save_tiny_few_step(tmp_path_factory.mktemp("lcm"))
    return BoundPrior(LatentModel.from_pretrained(str(folder)))


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> BoundPrior:
    folder = save_tiny_flow(tmp_path_factory.mktemp("flow"))
    return BoundPrior(LatentModel.from_pretrained(str(folder)))


def test_the_scheduler_of_a_checkpoint_says_what_kind_of_prior_it_is(
    embedded: BoundPrior, consistency: BoundPrior, flow: BoundPrior
) -> None:
    assert (embedded.kind, consistency.kind, flow.kind) == ("diffusion", "consistency", "flow")


def test_a_flow_prediction_recombines_with_flow_coefficients(flow: BoundPrior) -> None:
    z = keyed_normal((1, 4, 16, 16), "flow")
    with torch.no_grad():
        prediction = flow.predict(z, 250)
    torch.testing.assert_close(0.75 * prediction.z0 + 0.25 * prediction.eps, z, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "kind", "per_step"),
    [
        ("latino", "consistency", Evaluations(forward=1, encode=1, decode=1)),
        ("lvtino", "consistency", Evaluations(forward=1, encode=1, decode=1)),
        ("flowchef", "flow", Evaluations(forward=1, decode=1, decode_back=1)),
        ("flowdps", "flow", Evaluations(forward=1, decode=3, decode_back=3)),
    ],
)
def test_it_runs_on_the_kind_of_model_it_is_made_for_at_the_cost_of_its_method(
    name: str, kind: str, per_step: Evaluations, request: pytest.FixtureRequest
) -> None:
    prior: LatentPrior = request.getfixturevalue(kind)
    given = problem(name, 1)
    solver = build_solver({"name": name, "steps": 4}, given.operator, given.sigma, prior)
    noise = keyed_normal((1, 4, 8, 8), "n")
    restored = restore(solver, given.y, noise, prior, draws((0,)))
    assert restored.shape == given.x.shape
    assert torch.isfinite(restored).all()
    counting = CountingPrior(prior)
    with torch.no_grad():
        state = begin(solver, given.y, noise, counting, draws((0,)))
        counting.evaluations = Evaluations()
        solver.step(0, state, counting)
    assert counting.evaluations == per_step


def test_a_bridge_of_the_real_class_is_a_solver_that_never_asks_the_latent_network(
    embedded: BoundPrior, tmp_path: Path
) -> None:
    given = problem("cddb", 2)
    spec = {"name": "cddb", "checkpoint": str(save_tiny_bridge(tmp_path)), "steps": 2}
    solver = build_solver(spec, given.operator, given.sigma, embedded)
    counting = CountingPrior(embedded)
    restored = restore(solver, given.y, start_noise((0, 1)), counting, draws((0, 1)))
    assert counting.evaluations == Evaluations()
    assert restored.shape == given.x.shape
    alone = restore(solver, given.y[1:], start_noise((1,)), counting, draws((1,)))
    assert torch.allclose(alone[0], restored[1], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "one_step"}, "is no bridge"),
        ({"weights": ["other.safetensors"]}, "other.safetensors is missing"),
    ],
)
def test_a_bridge_that_cannot_be_read_is_refused_by_its_field(
    changes: dict, words: str, embedded: BoundPrior, tmp_path: Path
) -> None:
    given = problem("cddb", 1)
    spec = {"name": "cddb", "checkpoint": str(save_tiny_bridge(tmp_path, **changes))}
    with pytest.raises(OperatorError, match=rf"solver\.checkpoint: .*{words}"):
        build_solver(spec, given.operator, given.sigma, embedded)
    with pytest.raises(OperatorError, match=r"solver\.checkpoint: cddb needs the folder"):
        build_solver({"name": "cddb"}, given.operator, given.sigma, embedded)


@pytest.mark.parametrize("name", ["latino", "flowchef", "flowdps"])
def test_a_model_of_the_wrong_kind_is_refused_with_what_would_work(name: str, embedded: BoundPrior) -> None:
    given = problem(name, 1)
    with pytest.raises(OperatorError, match=rf"{name} needs a .* model.*dpir.*stsl"):
        build_solver({"name": name}, given.operator, given.sigma, embedded)


def test_an_operator_that_is_not_linear_is_refused_by_those_that_need_it(embedded: BoundPrior) -> None:
    operator = build_operator({"kind": "clipping", "gain": 2.0}, SIDE, SIDE, {})
    for name in ("treg", "ddnm", "dreamsampler", "video_latent"):
        with pytest.raises(OperatorError, match=rf"{name} needs a linear operator; .*ldps"):
            build_solver({"name": name}, operator, 0.02, embedded)
    assert "ldps" in solvers_for(operator, embedded)


def test_a_gradient_solver_restores_through_a_nonlinear_operator(embedded: BoundPrior) -> None:
    operator = build_operator({"kind": "clipping", "gain": 2.0}, SIDE, SIDE, {})
    x = pictures(1)
    y = operator.apply(x)
    solver = build_solver({"name": "ldps", **FEW}, operator, 0.0, embedded)
    restored = restore(solver, y, start_noise((0,)), embedded, draws((0,)))
    assert float(psnr(restored.clamp(-1, 1), x, 2.0) - psnr(y, x, 2.0)) > 3.0


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"name": "ldps", "eta": 1.5}, "solver.eta"),
        ({"name": "ldps", "likelihood": "cauchy"}, "solver.likelihood"),
        ({"name": "stsl", "averages": 0}, "solver.averages"),
        ({"name": "diffpir", "zeta": -0.1}, "solver.zeta"),
        ({"name": "treg", "lam": -1.0}, "solver.lam"),
        ({"name": "reddiff", "strength": 0.0}, "strength"),
        ({"name": "psld", "rows": -1}, "solver.rows"),
        ({"name": "blind_dps"}, "kernel"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(spec: dict, named: str, embedded: BoundPrior) -> None:
    given = problem("psld", 1)
    with pytest.raises(OperatorError, match=named):
        build_solver(spec, given.operator, given.sigma, embedded)


def test_ddnm_refuses_a_pseudo_inverse_that_amplifies_noise(embedded: BoundPrior) -> None:
    operator = build_operator({"kind": "deblur", "kernel": "gaussian", "sigma": 1.6}, SIDE, SIDE, {})
    with pytest.raises(OperatorError, match=r"amplify the noise.*diffpir"):
        build_solver({"name": "ddnm"}, operator, 0.02, embedded)
