"""Noise that moves with the picture stays white, follows the motion and depends on nothing else."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from operators.flow.interval import ToEnds, motions_to_ends
from operators.flow.motion import Motion
from operators.flow.warp import inside
from operators.noise import FrameDraws, frame_noise
from operators.warped_noise import Moved, WarpedDraws, gathered_cells, warped_frame_noise
from tests.support.moving_pictures import codes, pan

SHAPE = (4, 48, 64)
KNOTS = (16, 32)


def uniform(x: float, y: float) -> Motion:
    flow = np.full((*SHAPE[1:], 2), (x, y), np.float32)
    return Motion(flow, inside(flow))


def panning(frame: int, x: float = 1.0, y: float = 0.0) -> ToEnds:
    """Motion of a frame of a pan by (x, y) cells per frame."""
    left, right = frame - KNOTS[0], KNOTS[1] - frame
    return ToEnds(uniform(-x * left, -y * left), uniform(x * right, y * right))


def warped(frame: int, motion: ToEnds, *, rho: float = 0.0, seed: int = 7, **changes: Any) -> torch.Tensor:
    key = {"source_digest": "s", "scene": 0, "purpose": "start", "knots": KNOTS, **changes}
    moved = Moved(key.pop("knots"), motion)
    return warped_frame_noise(SHAPE, seed=seed, frame=frame, rho=rho, moved=moved, **key)


def plain(frame: int, *, rho: float = 0.0, seed: int = 7) -> torch.Tensor:
    return frame_noise(
        SHAPE, seed=seed, source_digest="s", scene=0, frame=frame, purpose="start", rho=rho
    )


def expanding() -> ToEnds:
    """A zoom of 3 % per frame around the centre: two cells compete for one near every seam."""
    rows, columns = np.mgrid[: SHAPE[1], : SHAPE[2]].astype(np.float32)
    offset = np.stack([columns - 31.5, rows - 23.5], -1)
    left, right = offset * np.float32(1.03**-6 - 1), offset * np.float32(1.03**10 - 1)
    return ToEnds(Motion(left, inside(left)), Motion(right, inside(right)))


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a * b).mean())


@pytest.mark.parametrize("step", [(0.0, 0.0), (1.0, 0.0), (0.5, 0.5), (-1.3, 0.7)])
def test_a_uniform_motion_gathers_every_cell_that_stays_inside_once(step: tuple[float, float]) -> None:
    cells = gathered_cells(uniform(*step))
    taken = cells[cells >= 0]
    assert len(np.unique(taken)) == len(taken)
    rows, columns = np.divmod(cells, SHAPE[2])
    x, y = (int(np.floor(length + 0.5)) for length in step)
    seen = cells >= 0
    assert (columns[seen] - np.nonzero(seen)[1] == x).all()
    assert (rows[seen] - np.nonzero(seen)[0] == y).all()
    assert seen.sum() >= (SHAPE[1] - abs(y) - 1) * (SHAPE[2] - abs(x) - 1)


def test_no_sample_enters_two_cells_where_the_picture_expands() -> None:
    cells = gathered_cells(expanding().left)
    taken = cells[cells >= 0]
    assert len(np.unique(taken)) == len(taken)
    # The zoom shows a 1.03^-6 part of the knot in each direction: that share of cells finds a sample.
    assert len(taken) / cells.size == pytest.approx(1.03**-12, abs=0.04)


def test_the_nearer_of_two_cells_that_point_to_one_keeps_it() -> None:
    flow = np.zeros((1, 3, 2), np.float32)
    flow[0, :, 0] = (1.3, -0.1, 2.0)
    cells = gathered_cells(Motion(flow, np.ones((1, 3), bool)))
    assert cells.tolist() == [[-1, 1, -1]]


def test_noise_follows_the_motion_from_knot_to_knot() -> None:
    for frame in (17, 20, 24, 28, 31):
        u = (frame - 16) / 16
        noise = warped(frame, panning(frame))
        shift = frame - 16
        left = correlation(noise[:, :, shift:], plain(16)[:, :, : SHAPE[2] - shift])
        right = correlation(noise[:, :, : SHAPE[2] - (16 - shift)], plain(32)[:, :, 16 - shift :])
        # Near the edges only one knot is seen and has the whole weight.
        both = (SHAPE[2] - 16) / SHAPE[2]
        alone_left = (16 - shift) / (SHAPE[2] - shift)
        alone_right = shift / (SHAPE[2] - (16 - shift))
        cos, sin = np.cos(u * np.pi / 2), np.sin(u * np.pi / 2)
        assert both > 0
        assert left == pytest.approx(cos + alone_left * (1 - cos), abs=0.03)
        assert right == pytest.approx(sin + alone_right * (1 - sin), abs=0.03)


def test_consecutive_frames_correlate_equally_along_the_motion_and_knots_are_no_exception() -> None:
    still = ToEnds(uniform(0, 0), uniform(0, 0))
    noises = [plain(16), *(warped(frame, still) for frame in range(17, 32)), plain(32)]
    found = [correlation(a, b) for a, b in itertools.pairwise(noises)]
    assert found == pytest.approx([np.cos(np.pi / 32)] * 16, abs=0.03)
    steps = [float((a - b).square().mean()) for a, b in itertools.pairwise(noises)]
    assert max(steps) < 1.2 * min(steps)


@pytest.mark.parametrize("motion", ["pan", "fraction", "zoom", "hidden"])
def test_the_noise_of_a_frame_is_white_whatever_the_motion(motion: str) -> None:
    hidden = Motion(uniform(0, 0).flow, np.zeros(SHAPE[1:], bool))
    ends = {
        "pan": panning(22),
        "fraction": panning(22, 0.37, -0.21),
        "zoom": expanding(),
        "hidden": ToEnds(hidden, hidden),
    }[motion]
    noise = torch.stack([warped(22, ends, seed=seed) for seed in range(24)]).double()
    samples = noise.numel()
    assert float(noise.mean()) == pytest.approx(0, abs=5 / samples**0.5)
    assert float(noise.var()) == pytest.approx(1, abs=5 * (2 / samples) ** 0.5)
    # Spectrum: the mean power of every ring of frequencies is 1.
    power = torch.fft.fft2(noise, norm="ortho").abs().square().mean((0, 1))
    rows, columns = (torch.fft.fftfreq(side) for side in SHAPE[1:])
    radius = (rows[:, None].square() + columns.square()).sqrt()
    for low in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5):
        ring = power[(radius >= low) & (radius < low + 0.1)]
        assert float(ring.mean()) == pytest.approx(1, abs=5 / (ring.numel() * 96) ** 0.5)
    # And so is every cell by itself: none is louder because of how it was filled.
    per_cell = noise.square().mean((0, 1))
    assert float(per_cell.min()) > 0.4
    assert float(per_cell.max()) < 2.0


def test_a_cell_that_one_knot_does_not_show_has_full_variance_too() -> None:
    motion = ToEnds(uniform(-40, 0), uniform(0, 0))
    noise = torch.stack([warped(24, motion, seed=seed) for seed in range(16)])
    lone, both = noise[..., :40], noise[..., 40:]
    assert float(lone.var()) == pytest.approx(1, abs=0.03)
    assert float(both.var()) == pytest.approx(1, abs=0.03)
    assert torch.allclose(noise[0][..., :40], plain(32, seed=0)[..., :40], atol=1e-6)


def test_what_no_knot_shows_is_the_frames_own_noise() -> None:
    hidden = Motion(uniform(0, 0).flow, np.zeros(SHAPE[1:], bool))
    assert torch.equal(warped(24, ToEnds(hidden, hidden), rho=0.5), plain(24, rho=0.5))


def test_the_part_of_the_scene_stays_and_has_weight_rho() -> None:
    whole = warped(24, panning(24), rho=1.0)
    assert torch.equal(whole, plain(24, rho=1.0))
    mixed = warped(24, panning(24), rho=0.64)
    assert torch.allclose(mixed, 0.8 * whole + 0.6 * warped(24, panning(24)), atol=1e-6)


def test_every_part_of_the_key_changes_the_noise_and_the_order_of_drawing_does_not() -> None:
    base = warped(20, panning(20), rho=0.5)
    torch.manual_seed(3)
    warped(25, panning(25))
    assert torch.equal(warped(20, panning(20), rho=0.5), base)
    for changes in ({"scene": 1}, {"source_digest": "t"}, {"purpose": "p"}, {"seed": 8}, {"knots": (16, 40)}):
        assert not torch.equal(warped(20, panning(20), rho=0.5, **changes), base)


def test_a_frame_outside_its_knots_is_refused() -> None:
    with pytest.raises(ValueError, match="frame 32"):
        warped(32, panning(24))


def test_noise_sticks_to_a_real_pan_better_than_to_the_screen() -> None:
    """Measured flow, pixels to cells: noise of frame 2 is found in frame 5 where the picture went."""
    shape = (4, 24, 32)
    frames = [codes(frame) for frame in pan(9, (2.0, 0.0), 96, 128)]
    ends = motions_to_ends(frames)
    key = {"seed": 1, "source_digest": "s", "scene": 0, "purpose": "start", "rho": 0.0}
    early, late = (
        warped_frame_noise(
            shape,
            frame=frame,
            moved=Moved((0, 8), ends[frame - 1].at_cells(*shape[1:], (96, 128))),
            **key,
        )
        for frame in (2, 6)
    )
    # Eight pixels are two cells.
    along = correlation(late[:, 3:-3, 8:-6], early[:, 3:-3, 6:-8])
    on_screen = correlation(late[:, 3:-3, 8:-6], early[:, 3:-3, 8:-6])
    assert along > 0.5
    assert abs(on_screen) < 0.15


def test_draws_of_every_step_move_with_the_picture_and_others_stay_as_they_are() -> None:
    moved = Moved(KNOTS, panning(20))
    draws = WarpedDraws(7, "s", 0, (20, 21), 0.3, "stage 1", moved={20: moved})
    fixed = FrameDraws(7, "s", 0, (20, 21), 0.3, "stage 1")
    latent = torch.zeros(2, *SHAPE)
    found, still = draws.normal(latent, 5, "renoise"), fixed.normal(latent, 5, "renoise")
    carried = warped(20, moved.ends, rho=0.3, purpose="stage 1 step 5 renoise")
    assert torch.equal(found[0], carried)
    assert not torch.equal(found[0], still[0])
    assert torch.equal(found[1], still[1])
    kernel = torch.zeros(2, 1, 5, 5)
    assert torch.equal(draws.normal(kernel, 5, "kernel"), fixed.normal(kernel, 5, "kernel"))
