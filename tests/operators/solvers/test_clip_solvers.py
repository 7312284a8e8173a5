"""Solvers that look at a clip: flow-guided loss, SVI, the composed sampler, LVTINO, a kernel per scene."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from operators.closed_form.mixture import ChainDraws
from operators.degradations.super_resolution import AreaDownsampling
from operators.errors import OperatorError
from operators.solvers.base import begin, restore
from operators.solvers.blind_dps import BlindDps, correlate, normalised, on_simplex
from operators.solvers.ddim import leading_timesteps
from operators.solvers.flow_loss import ClipFlows, flow_gradient, flow_loss, visible, warp
from operators.solvers.lvtino import IMAGE_TIMESTEPS, VIDEO_TIMESTEPS, Lvtino, continued
from operators.solvers.reencode import NormalFit
from operators.solvers.svi import Svi
from operators.solvers.video_latent import VideoLatent
from tests.support.gaussian_prior import GaussianPrior, smooth_gaussian_prior, stable_diffusion_alphas

T, H, W = 5, 6, 8


class SharedDraws(ChainDraws):
    """One draw for all rows."""

    def normal(self, like: Tensor, step: int, purpose: str) -> Tensor:
        return super().normal(like[:1], step, purpose).expand_as(like)


def prior() -> GaussianPrior:
    return smooth_gaussian_prior(H, W, torch.Generator().manual_seed(0))


def still_flows(frames: int = T) -> ClipFlows:
    nothing = torch.zeros(frames - 1, 2, H, W, dtype=torch.float64)
    return ClipFlows(nothing, nothing)


def moving_clip(shift: int) -> tuple[Tensor, ClipFlows]:
    """A picture that moves ``shift`` cells to the right per frame, with exact flow."""
    wide = torch.randn(1, 3, H, W + shift * T, generator=torch.Generator().manual_seed(1)).double()
    clip = torch.cat([wide[..., shift * (T - i) : shift * (T - i) + W] for i in range(T)])
    right = torch.zeros(T - 1, 2, H, W, dtype=torch.float64)
    right[:, 0] = shift
    return clip, ClipFlows(right, -right)


# --- flow-guided loss --------------------------------------------------------------------------------


def test_the_flow_loss_of_a_still_clip_is_zero() -> None:
    """The released code returns twice the mean |z| here, by an index slip."""
    still = torch.randn(1, 3, H, W).double().expand(T, -1, -1, -1)
    assert float(flow_loss(still, still_flows())) < 1e-12


def test_the_flow_loss_of_a_moving_clip_is_zero_along_its_flow_and_positive_otherwise() -> None:
    clip, flows = moving_clip(2)
    assert float(flow_loss(clip, flows)) < 1e-10
    assert float(flow_loss(clip, still_flows())) > 10.0


def test_what_leaves_the_picture_or_does_not_return_is_not_compared() -> None:
    _, flows = moving_clip(2)
    seen = visible(flows.forward, flows.backward)
    assert float(seen[..., : W - 2].min()) == 1.0
    assert float(seen[..., W - 2 :].max()) == 0.0
    torn = ClipFlows(flows.forward, flows.forward)
    assert float(visible(torn.forward, torn.backward).max()) == 0.0


def test_flow_scales_with_the_grid_it_is_resized_to() -> None:
    _, flows = moving_clip(2)
    half = flows.resized(H // 2, W // 2)
    assert half.forward.shape == (T - 1, 2, H // 2, W // 2)
    torch.testing.assert_close(half.forward[:, 0], torch.ones(T - 1, H // 2, W // 2).double())


def test_warping_by_a_whole_number_of_cells_is_a_shift() -> None:
    z = torch.randn(1, 2, H, W).double()
    flow = torch.zeros(1, 2, H, W).double()
    flow[:, 1] = 1.0
    torch.testing.assert_close(warp(z, flow)[:, :, :-1], z[:, :, 1:])


def test_descending_the_flow_loss_brings_frames_together() -> None:
    clip, flows = moving_clip(1)
    noisy = clip + 0.3 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(2)).double()
    moved = noisy
    for _ in range(20):
        moved = moved - 0.01 * flow_gradient(moved, flows)
    assert float(flow_loss(moved, flows)) < 0.6 * float(flow_loss(noisy, flows))


# --- clips -------------------------------------------------------------------------------------------


class RunningMean(AreaDownsampling):
    """Circular mean over three frames: measurements couple frames; symmetric."""

    def __init__(self) -> None:
        super().__init__(H, W, 1)
        self.has_prox = False

    @property
    def couples_frames(self) -> bool:
        return True

    def apply(self, x: Tensor) -> Tensor:
        return (x.roll(1, 0) + x + x.roll(-1, 0)) / 3

    adjoint = apply

    def pinv(self, y: Tensor) -> Tensor:
        return y


def test_svi_recovers_a_clip_from_its_running_mean() -> None:
    model = prior()
    x = model.draw(4, torch.Generator().manual_seed(3))
    operator = RunningMean()
    fit = NormalFit(operator, 0.0, 12, 1e-9, joint=True)
    noise = ChainDraws(0).normal(x, 0, "start")
    found = restore(Svi(fit, leading_timesteps(10)), operator.apply(x), noise, model, ChainDraws(1))
    assert float((found - x).norm()) < 1e-3 * float(x.norm())


@pytest.mark.parametrize("flows", [None, still_flows()], ids=["without flow", "with flow"])
def test_equal_frames_with_shared_noise_stay_equal(flows: ClipFlows | None) -> None:
    model = prior()
    x = model.draw(1, torch.Generator().manual_seed(3)).expand(T, -1, -1, -1)
    operator = AreaDownsampling(H, W, 2)
    solver = VideoLatent(operator, leading_timesteps(10, strength=0.6), 0.1, 1.0, flows=flows)
    found = restore(solver, operator.apply(x), torch.zeros_like(x), model, SharedDraws(1))
    # The flow loss turns rounding errors into at most 1 / ROUND times as much.
    assert float((found - found[:1]).abs().max()) < 1e-6


def test_shared_noise_flickers_less_than_independent_noise() -> None:
    model = prior()
    x = model.draw(1, torch.Generator().manual_seed(3)).expand(T, -1, -1, -1)
    operator = AreaDownsampling(H, W, 2)
    y = operator.apply(x) + 0.02 * ChainDraws(5).normal(operator.apply(x), 0, "measured")
    solver = VideoLatent(operator, leading_timesteps(10, strength=0.6), 0.02, 1.0, eta=0.8)
    flicker = [
        float(restore(solver, y, torch.zeros_like(x), model, draws).diff(dim=0).square().mean())
        for draws in (SharedDraws(1), ChainDraws(1))
    ]
    assert flicker[0] < 0.5 * flicker[1]


def test_a_flow_loss_makes_noisy_frames_of_a_still_scene_agree_more() -> None:
    model = prior()
    model.rotation = torch.eye(len(model.mean), dtype=torch.float64)
    x = model.draw(1, torch.Generator().manual_seed(3)).expand(T, -1, -1, -1)
    operator = AreaDownsampling(H, W, 2)
    y = operator.apply(x) + 0.1 * ChainDraws(5).normal(operator.apply(x), 0, "measured")
    flicker = []
    for flows in (None, still_flows()):
        solver = VideoLatent(
            operator, leading_timesteps(10, strength=0.6), 0.1, 0.1, flows=flows, flow_weight=0.2
        )
        found = restore(solver, y, torch.zeros_like(x), model, SharedDraws(1))
        flicker.append(float(found.diff(dim=0).square().mean()))
    assert flicker[1] < 0.8 * flicker[0]


def test_key_frames_lend_their_inversion_to_the_frames_around_them() -> None:
    model = prior()
    x = model.draw(T, torch.Generator().manual_seed(3))
    operator = AreaDownsampling(H, W, 1)
    solver = VideoLatent(operator, leading_timesteps(10, strength=0.3), 0.1, 1.0, key_every=4)
    z = begin(solver, x, torch.zeros_like(x), model).z
    assert torch.equal(z[0], z[1])
    assert torch.equal(z[2], z[4])
    assert not torch.equal(z[1], z[2])


# --- LVTINO ------------------------------------------------------------------------------------------


@dataclass
class ClipPrior:
    """A video consistency model of still scenes: the clean latent is the mean over time."""

    alphas_cumprod: Tensor = field(default_factory=stable_diffusion_alphas)
    frames_multiple: int = 4
    asked: list[int] = field(default_factory=list)

    def encode(self, clip: Tensor) -> Tensor:
        return clip.transpose(0, 1)

    def decode(self, z: Tensor) -> Tensor:
        return z.transpose(0, 1)

    def predict_z0(self, z: Tensor, t: int) -> Tensor:
        self.asked.append(t)
        return (z / self.alphas_cumprod[t].sqrt()).mean(1, keepdim=True).expand_as(z)


def lvtino(video: ClipPrior | None) -> Lvtino:
    operator = AreaDownsampling(H, W, 2)
    weights = (30.0,) * 5
    return Lvtino(operator, IMAGE_TIMESTEPS, weights, video, VIDEO_TIMESTEPS, weights)


def test_lvtino_asks_both_models_in_turn_and_the_video_model_steadies_the_clip() -> None:
    model, video = prior(), ClipPrior()
    x = 0.3 * model.draw(1, torch.Generator().manual_seed(3)).expand(T, -1, -1, -1)
    operator = AreaDownsampling(H, W, 2)
    y = operator.apply(x) + 0.1 * ChainDraws(5).normal(operator.apply(x), 0, "measured")
    alone, both = (restore(lvtino(v), y, torch.zeros_like(x), model, ChainDraws(1)) for v in (None, video))
    assert video.asked == list(VIDEO_TIMESTEPS)
    assert float(both.diff(dim=0).square().mean()) < float(alone.diff(dim=0).square().mean())


@pytest.mark.parametrize(("frames", "asked"), [(1, 1), (2, 5), (5, 5), (6, 9)])
def test_a_clip_is_continued_by_its_last_frame_to_a_length_that_the_video_model_takes(
    frames: int, asked: int
) -> None:
    clip = torch.randn(frames, 3, H, W).double()
    longer = continued(clip, 4)
    assert len(longer) == asked
    assert torch.equal(longer[:frames], clip)
    assert all(torch.equal(frame, clip[-1]) for frame in longer[frames:])
    assert len(restore(lvtino(ClipPrior()), clip[..., ::2, ::2], clip, prior(), ChainDraws(1))) == frames


def test_weights_that_do_not_match_the_steps_are_refused() -> None:
    with pytest.raises(OperatorError, match="image_weights has 4 entries for 5 steps"):
        Lvtino(AreaDownsampling(H, W, 2), IMAGE_TIMESTEPS, (1.0,) * 4)


# --- blind blur --------------------------------------------------------------------------------------


def test_correlation_by_a_kernel_of_its_own_is_done_for_every_row() -> None:
    x = torch.randn(2, 3, H, W).double()
    kernels = torch.rand(2, 1, 3, 3).double()
    together = correlate(x, kernels, "reflect")
    for row in range(2):
        padded = torch.nn.functional.pad(x[row : row + 1], [1] * 4, mode="reflect")
        weight = kernels[row].expand(3, 1, 3, 3)
        expected = torch.nn.functional.conv2d(padded, weight, groups=3)
        torch.testing.assert_close(together[row : row + 1], expected)


def test_the_simplex_projection_is_the_nearest_kernel() -> None:
    kernel = torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(1)).double()
    projected = on_simplex(kernel)
    assert float(projected.min()) >= 0.0
    torch.testing.assert_close(projected.sum((1, 2, 3)), torch.ones(4).double())
    torch.testing.assert_close(on_simplex(projected), projected)
    # The projection's optimality: no other point of the simplex makes an acute angle with the offset.
    others = normalised(torch.rand(200, 1, 3, 3).double())
    offset = (kernel - projected).flatten(1)
    angles = offset @ (others.flatten(1).T) - (offset * projected.flatten(1)).sum(1, keepdim=True)
    assert float(angles.max()) < 1e-9


def test_a_scene_shares_one_kernel_that_comes_nearer_to_the_true_one() -> None:
    model = prior()
    x = model.draw(16, torch.Generator().manual_seed(3))
    true = torch.zeros(1, 1, 3, 3).double()
    true[0, 0, 1] = torch.tensor([0.3, 0.4, 0.3])
    guess = torch.zeros_like(true)
    guess[0, 0, 1, 1] = 1.0
    solver = BlindDps(
        leading_timesteps(100), guess, scale=0.3, kernel_rate=2e-3, border="circular", shared=True
    )
    noise = ChainDraws(0).normal(x, 0, "start")
    state = begin(solver, correlate(x, true, "circular"), noise, model, ChainDraws(1))
    for i in range(len(solver.timesteps)):
        state = solver.step(i, state, model)
    assert state.kernel.shape == (1, 1, 3, 3)
    assert float((state.kernel - true).norm()) < 0.6 * float((guess - true).norm())
