"""Every solver against the recorded run of its published implementation."""

from __future__ import annotations

import torch
from torch import Tensor

from operators.degradations.dense import DenseOperator
from operators.degradations.super_resolution import AreaDownsampling
from operators.solvers.base import LatentPrior, NoiseSource, State, StepSolver, begin
from operators.solvers.blind_dps import BlindDps
from operators.solvers.cddb import Cddb
from operators.solvers.dreamsampler import DreamSamplerEdit
from operators.solvers.guidance import Guided
from operators.solvers.guided_inversion import guided_invert
from operators.solvers.latino import Latino
from operators.solvers.ldps import Ldps
from operators.solvers.levels import next_level
from operators.solvers.parametrisation import from_residual
from operators.solvers.pixel_prior import PixelPrior
from operators.solvers.reddiff import RedDiff
from operators.solvers.reencode import NormalFit
from operators.solvers.resample import stochastic_resample
from operators.solvers.step_rules import recombine
from operators.solvers.svi import Svi
from operators.solvers.treg import TReg
from tests.support.golden_networks import (
    RecordedDraws,
    assert_matches,
    golden_prior,
    in_order,
    toy_network,
)
from tests.support.shared import golden


@torch.no_grad()
def states(
    solver: StepSolver, y: Tensor, noise: Tensor, prior: LatentPrior, draws: NoiseSource | None
) -> list[State]:
    """The state before the first step and after each."""
    visited = [begin(solver, y, noise, prior, draws)]
    for i in range(len(solver.timesteps)):
        visited.append(solver.step(i, visited[-1], prior))
    return visited


def latents(visited: list[State]) -> Tensor:
    return torch.stack([state.z for state in visited[1:]])


def as_pictures(x: Tensor) -> Tensor:
    return (x / 2 + 0.5).clamp(0, 1)


def descending(tensors: dict[str, Tensor]) -> tuple[int, ...]:
    return tuple(tensors["timesteps"].tolist())


def linear_table(tensors: dict[str, Tensor], clip: bool = True, prefix: str = "net/") -> PixelPrior:
    """The respaced process of a DPS-family file: timestep i is its i-th entry."""
    table = tensors["alphas_cumprod"]
    mapped = tuple(tensors["timestep_map"].tolist()) if "timestep_map" in tensors else None
    return PixelPrior(toy_network(tensors, prefix), table, table.new_ones(()), mapped, clip)


def test_dps_reproduces_the_published_run() -> None:
    tensors, facts = golden("dps_a")
    hparams = facts["hparams"]
    operator = AreaDownsampling(16, 16, facts["operator"]["factor"])
    timesteps = tuple(reversed(range(hparams["steps"])))
    solver = Ldps(operator, timesteps, scale=hparams["scale"], rule="ancestral")
    draws = RecordedDraws({"renoise": in_order(tensors["noise/posterior"])})
    prior = linear_table(tensors, hparams["clip_denoised"])
    visited = states(solver, tensors["y"], tensors["x_init"], prior, draws)
    assert_matches(latents(visited), tensors["out/latents"], facts, "latents")
    assert_matches(torch.stack([s.z0 for s in visited[1:]]), tensors["out/x0_hat"], facts, "x0_hat")
    assert_matches(solver.finish(visited[-1], prior), tensors["out/image"], facts, "image")


def test_blind_dps_reproduces_the_published_run_of_picture_and_kernel() -> None:
    tensors, facts = golden("blinddps_a")
    hparams = facts["hparams"]
    picture, kernel = linear_table(tensors, prefix="net_image/"), linear_table(tensors, prefix="net_kernel/")
    solver = BlindDps(
        tuple(reversed(range(hparams["steps"]))),
        tensors["x_init/kernel"],
        kernel,
        kernel_weight=hparams["reg_scale"],
        kernel_norm=hparams["reg_ord"],
        border="constant",
    )
    draws = RecordedDraws(
        {"renoise": in_order(tensors["noise/image"]), "kernel": in_order(tensors["noise/kernel"])}
    )
    visited = states(solver, tensors["y"], tensors["x_init/image"], picture, draws)
    assert_matches(latents(visited), tensors["out/latents_image"], facts)
    assert_matches(torch.stack([s.kernel for s in visited[1:]]), tensors["out/latents_kernel"], facts)
    assert_matches(torch.stack([s.estimate for s in visited[1:]]), tensors["out/kernel_hat"], facts)
    assert_matches(solver.finish(visited[-1], picture), tensors["out/image"], facts)


def test_red_diff_reproduces_the_published_optimisation() -> None:
    tensors, facts = golden("reddiff_a")
    hparams = facts["hparams"]
    solver = RedDiff(
        AreaDownsampling(16, 16, facts["operator"]["factor"]),
        descending(tensors),
        rate=hparams["lr"],
        prior_weight=hparams["grad_term_weight"],
        data_weight=hparams["obs_weight"],
    )
    table = tensors["alphas_cumprod"]
    prior = PixelPrior(toy_network(tensors), table, table.new_ones(()), clip=False)
    draws = RecordedDraws({"renoise": in_order(tensors["noise/xt"])})
    visited = states(solver, tensors["y"], tensors["noise/xt"][0], prior, draws)
    assert_matches(torch.stack([s.z0 for s in visited[1:]]), tensors["out/latents"], facts)
    assert_matches(solver.finish(visited[-1], prior), tensors["out/image"], facts)


def test_treg_reproduces_the_published_run() -> None:
    tensors, facts = golden("treg_a")
    hparams = facts["hparams"]
    prior = golden_prior(tensors, facts, guidance=hparams["cfg"])
    operator = DenseOperator(tensors["A"], (3, 16, 16), (192,))
    fit = NormalFit(operator, hparams["cg_lambda"], hparams["cg_iters"], hparams["cg_eps"])
    solver = TReg(fit, descending(tensors), hparams["dc_every"], hparams["dc_until_step"])
    fitted = tensors["dc_steps"].tolist()
    draws = RecordedDraws({"renoise": in_order(tensors["noise/ddpm"], fitted)})
    visited = states(solver, tensors["y"], tensors["z_init"], prior, draws)
    assert_matches(latents(visited), tensors["out/latents"], facts)
    for at, i in enumerate(fitted):
        with torch.no_grad():
            z0 = prior.predict(visited[i].z, solver.timesteps[i]).z0
            assert_matches(fit.latent(z0, tensors["y"], prior), tensors["out/z0y"][at], facts)
    assert_matches(visited[-1].z0, tensors["out/z0_last"], facts)
    with torch.no_grad():
        assert_matches(as_pictures(solver.finish(visited[-1], prior)), tensors["out/image"], facts)


@torch.no_grad()
def test_cfgpp_sampling_reproduces_the_published_run() -> None:
    tensors, facts = golden("cfgpp_a")
    prior = Guided(golden_prior(tensors, facts), facts["hparams"]["cfg_lambda"], "cfgpp")
    z, timesteps = tensors["z_init"], descending(tensors)
    for i, t in enumerate(timesteps):
        prediction = prior.predict(z, t)
        z = recombine(prediction.z0, prediction.eps, next_level(prior, timesteps, i))
        assert_matches(z, tensors["out/latents"][i], facts)
        assert_matches(prediction.z0, tensors["out/z0"][i], facts)
    assert_matches(as_pictures(prior.decode(prediction.z0)), tensors["out/image"], facts)


@torch.no_grad()
def test_cfgpp_inversion_and_sampling_back_reproduce_the_published_run() -> None:
    tensors, facts = golden("cfgpp_inversion_a")
    weight, timesteps = facts["hparams"]["cfg_lambda"], descending(tensors)
    plain = golden_prior(tensors, facts)
    assert_matches(plain.encode(tensors["x_src"]), tensors["z_src"], facts, "inversion_latents")
    inverted = guided_invert(tensors["z_src"], timesteps, plain, weight)
    assert_matches(torch.stack(inverted), tensors["out/inversion_latents"], facts, "inversion_latents")
    prior, z = Guided(plain, weight, "cfgpp"), inverted[-1]
    for i, t in enumerate(timesteps):
        prediction = prior.predict(z, t)
        z = recombine(prediction.z0, prediction.eps, next_level(prior, timesteps, i))
        assert_matches(z, tensors["out/latents"][i], facts)
        assert_matches(prediction.z0, tensors["out/z0"][i], facts)
    assert_matches(as_pictures(prior.decode(prediction.z0)), tensors["out/image"], facts)


def test_dreamsampler_editing_reproduces_the_published_run() -> None:
    tensors, facts = golden("dreamsampler_edit_a")
    prior = golden_prior(tensors, facts, ("uc", "c_tgt"))
    solver = DreamSamplerEdit(descending(tensors), facts["hparams"]["cfg"])
    with torch.no_grad():
        inverted = guided_invert(tensors["z_src"], solver.timesteps, prior, facts["hparams"]["inversion_cfg"])
    assert_matches(torch.stack(inverted), tensors["out/inversion_latents"], facts)
    visited = states(solver, tensors["x_src"], torch.empty(0), prior, None)
    assert_matches(latents(visited), tensors["out/latents"], facts)
    assert_matches(torch.stack([s.z0 for s in visited[1:]]), tensors["out/z0"], facts)
    with torch.no_grad():
        assert_matches(as_pictures(solver.finish(visited[-1], prior)), tensors["out/image"], facts)


def test_latino_reproduces_the_published_run() -> None:
    tensors, facts = golden("latino_a")
    timesteps = descending(tensors)
    deltas = tuple(1.0 if t > 500 else 0.5 for t in timesteps)
    operator = AreaDownsampling(16, 16, facts["operator"]["factor"])
    solver = Latino(operator, timesteps, deltas, facts["hparams"]["sigma_y"])
    prior = golden_prior(tensors, facts, ("c", "c"))
    draws = RecordedDraws({"renoise": in_order(tensors["noise/renoise"])})
    state = State(z=tensors["z_init"], y=tensors["y"], draws=draws)
    for i, t in enumerate(timesteps):
        with torch.no_grad():
            z0 = prior.predict(state.z, t).z0
            fitted = solver.fitted_latent(i, z0, state.y, prior)
            state = solver.step(i, state, prior)
        assert_matches(fitted, tensors["out/z0_conditioned"][i], facts)
        assert_matches(state.z0, tensors["out/denoised"][i], facts)
        assert_matches(state.z, tensors["out/latents"][i], facts)
    with torch.no_grad():
        assert_matches(solver.finish(state, prior), tensors["out/image"], facts)


class TemporalMean(AreaDownsampling):
    """Circular moving average over frames; symmetric, so its own adjoint."""

    def __init__(self, side: int, taps: int) -> None:
        super().__init__(side, side, 1)
        self.taps = taps

    def apply(self, x: Tensor) -> Tensor:
        reach = self.taps // 2
        return torch.stack([x.roll(shift, 0) for shift in range(-reach, reach + 1)]).mean(0)

    adjoint = apply


def test_svi_reproduces_the_published_run_in_double_precision() -> None:
    tensors, facts = golden("svi_a")
    hparams = facts["hparams"]
    operator = TemporalMean(8, hparams["kernel_frames"])
    # The file measures and stops on [0, 1]; solvers work on [-1, 1], where residuals are twice as long.
    fit = NormalFit(operator, 0.0, hparams["cg_iters"], 2 * hparams["cg_eps"], joint=True)
    solver = Svi(fit, descending(tensors), hparams["eta"])
    table = tensors["alphas_cumprod"]
    network = toy_network(tensors, dtype=torch.float64)
    prior = PixelPrior(lambda x, t: network(x, t)[:, :3], table[1:], table[0], clip=False)
    draws = RecordedDraws({"renoise": in_order(tensors["noise/ddim"], tensors["noise_steps"].tolist())})
    y = tensors["y"][0].transpose(0, 1).double() * 2 - 1
    visited = states(solver, y, tensors["x_init"].double(), prior, draws)
    assert_matches(latents(visited), tensors["out/latents"], facts)
    fitted = torch.stack([s.x.transpose(0, 1)[None] for s in visited[1:]])
    assert_matches((fitted + 1) / 2, tensors["out/x0_cg"], facts)
    assert_matches(solver.finish(visited[-1], prior), tensors["out/video"], facts)


class GoldenBridge:
    """The toy bridge of the CDDB file."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.std_fwd = tensors["std_fwd"]
        self._network = toy_network(tensors)

    def start(self, y: Tensor, operator: AreaDownsampling) -> Tensor:
        return operator.pinv(y)

    def predict_x0(self, x: Tensor, index: int) -> Tensor:
        return from_residual(x, self._network(x, index), self.std_fwd[index])


def test_cddb_reproduces_the_published_run() -> None:
    tensors, facts = golden("cddb_a")
    hparams = facts["hparams"]
    operator = AreaDownsampling(16, 16, facts["operator"]["factor"])
    solver = Cddb(operator, descending(tensors), hparams["step_size"], deterministic=hparams["ot_ode"])
    bridge = GoldenBridge(tensors)
    draws = RecordedDraws({"posterior": in_order(tensors["noise/posterior"])})
    visited = states(solver, tensors["y"], torch.empty(0), bridge, draws)
    assert_matches(visited[0].z, tensors["x_init"], facts)
    assert_matches(latents(visited), tensors["out/latents"], facts)
    assert_matches(torch.stack([s.z0 for s in visited[1:]]), tensors["out/x0_before"], facts)
    assert_matches(solver.finish(visited[-1], bridge), tensors["out/image"], facts)


def test_stochastic_resampling_reproduces_the_published_formula() -> None:
    tensors, facts = golden("resample_formula_a")
    rows = [tensors[name].view(-1, 1, 1, 1, 1) for name in ("a_t", "sigma")]
    x = stochastic_resample(tensors["pseudo_x0"], tensors["x_t"], *rows, tensors["noise/resample"])
    assert_matches(x, tensors["out/x"], facts)
