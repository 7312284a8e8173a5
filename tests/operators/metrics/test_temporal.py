"""Temporal metrics on videos whose motion, noise and seams are known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest

from operators.flow.motion import Motion, motion_between, motions
from operators.flow.warp import inside
from operators.metrics.boundary import (
    boundary_index,
    pairs_across,
    pairs_touching,
    relative_boundary_index,
)
from operators.metrics.delta import Delta, delta, delta_psnr
from operators.metrics.flicker import Pair, flicker_excess, static_flicker, static_pixels
from operators.metrics.flow_difference import flow_difference
from operators.metrics.temporal_scores import temporal_scores
from operators.metrics.warp_error import WarpErrors, mean_of, warp_error
from tests.support.moving_pictures import codes, pan, texture

SIGMA = 7 / 255


def noise(seed: int, shape: tuple[int, ...] = (96, 128, 3)) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)


def known(x: float, y: float, shape: tuple[int, int] = (96, 128)) -> Motion:
    flow = np.full((*shape, 2), (x, y), np.float32)
    return Motion(flow, inside(flow))


def still(count: int = 6) -> list[np.ndarray]:
    return [texture(96, 128)] * count


def scores_of(source: list[np.ndarray], output: list[np.ndarray], **options):  # type: ignore[no-untyped-def]
    return temporal_scores(map(codes, source), map(codes, output), **options)


# Warp error


def test_a_video_warped_by_its_own_motion_has_nearly_no_error() -> None:
    frames = [codes(frame) for frame in pan(2, (3.0, -1.0))]
    assert warp_error(*frames, known(3.0, -1.0)) < 1e-9
    # Between pixels: quantisation (2/12 codes^2) and bilinear interpolation of eight-pixel waves.
    between = [codes(frame) for frame in pan(2, (2.4, -1.3))]
    assert warp_error(*between, known(2.4, -1.3)) < 1e-4
    assert warp_error(*between, motion_between(*between)) < 2e-4


@pytest.mark.parametrize("shift", [(0.0, 0.0), (2.0, -1.0), (0.5, 0.0), (0.5, 0.5), (0.3, 0.8)])
@pytest.mark.parametrize("sigma", [2 / 255, SIGMA, 20 / 255])
def test_independent_noise_costs_its_variance_once_and_once_more_as_interpolation_averages_it(
    shift: tuple[float, float], sigma: float
) -> None:
    flat = np.full((96, 128, 3), 0.5)
    frames = [(flat + sigma * noise(seed)).astype(np.float32) for seed in (1, 2)]
    gain = math.prod((1 - f) ** 2 + f**2 for f in (shift[0] % 1, shift[1] % 1))
    found = warp_error(frames[0], frames[1], known(*shift))
    assert found == pytest.approx(sigma**2 * (1 + gain), rel=0.03)


def test_the_sanity_figures_of_the_specification() -> None:
    base = codes(0.25 + 0.5 * texture(96, 128))
    exact = known(0.0, 0.0)
    assert warp_error(base, base, exact) == 0
    uniform = np.random.Generator(np.random.PCG64(2)).integers(-12, 13, (2, *base.shape))
    a, b = ((base.astype(int) + n).astype(np.uint8) for n in uniform)
    # Uniform noise of +-12 codes: 2 (25^2 - 1) / 12 / 255^2 = 1.6e-3.
    assert warp_error(a, b, exact) == pytest.approx(2 * (25**2 - 1) / 12 / 255**2, rel=0.03)
    # A brightness step of 10 codes: (10 / 255)^2 = 1.5e-3.
    assert warp_error(base, base + np.uint8(10), exact) == pytest.approx((10 / 255) ** 2, rel=1e-3)


def test_negative_differences_do_not_wrap_around() -> None:
    dark, light = (np.full((20, 20, 3), value, np.uint8) for value in (3, 5))
    up, down = (warp_error(a, b, known(0, 0, (20, 20))) for a, b in ((dark, light), (light, dark)))
    assert up == pytest.approx((2 / 255) ** 2)
    assert down == pytest.approx(up)


def test_hidden_pixels_do_not_count_and_nothing_visible_is_no_number() -> None:
    here, there = codes(texture(96, 128)), codes(texture(96, 128))
    there[:40] = 255
    motion = known(0.0, 0.0)
    motion.visible[:40] = False
    assert warp_error(here, there, motion) == 0
    motion.visible[:] = False
    assert math.isnan(warp_error(here, there, motion))
    assert mean_of([1.0, math.nan, 3.0]) == 2.0
    assert math.isnan(mean_of([math.nan]))


def test_measured_motion_and_noise_of_a_known_sigma_give_the_closed_form() -> None:
    source = pan(5, (2.0, 1.0))
    clean = temporal_scores(map(codes, source), map(codes, source), (1,)).warp_error()
    noisy = [frame + SIGMA * noise(i) for i, frame in enumerate(source)]
    found = scores_of(source, noisy, distances=(1,)).warp_error()
    # Measured flow falls a little beside the whole pixels, so interpolation averages some noise away.
    assert SIGMA**2 * (1 + 4 / 9) < found - clean < 2 * SIGMA**2 * 1.03


def test_long_distances_follow_chained_motion() -> None:
    source = pan(20, (1.5, 0.5))
    found = scores_of(source, source)
    assert [len(found.errors[k]) for k in (1, 8, 16)] == [19, 12, 4]
    assert found.warp_error(8) < 1e-3
    # Without the motion the same frames differ by far more.
    unmoved = [warp_error(codes(source[i]), codes(source[i + 8]), known(0, 0)) for i in range(12)]
    assert found.warp_error(8) < 0.05 * mean_of(unmoved)


def test_drift_shows_at_long_distances_and_hardly_between_neighbours() -> None:
    source = still(20)
    drifting = [frame * 0.8 + 0.005 * i for i, frame in enumerate(source)]
    found = scores_of(source, drifting)
    assert found.warp_error(1) == pytest.approx(0.005**2, rel=0.3)
    assert found.warp_error(8) == pytest.approx(0.04**2, rel=0.05)
    assert found.warp_error(16) == pytest.approx(0.08**2, rel=0.05)


def test_the_errors_of_a_distance_are_those_of_its_pairs_in_order() -> None:
    source = [codes(frame) for frame in still(7)]
    marked = [frame.copy() for frame in source]
    marked[3][:] = 255 - marked[3]
    errors = WarpErrors((1, 2))
    for i, frame in enumerate(marked):
        errors.add(frame, known(0, 0) if i else None)
    assert [error > 0 for error in errors.errors[1]] == [False, False, True, True, False, False]
    assert [error > 0 for error in errors.errors[2]] == [False, True, False, True, False]


def test_a_stream_of_any_length_holds_no_more_frames_than_the_longest_distance() -> None:
    errors = WarpErrors((1, 4))
    for i in range(40):
        errors.add(np.zeros((8, 8, 3), np.uint8), known(0, 0, (8, 8)) if i else None)
    assert len(errors._begun) == 4


# Boundary index


def test_the_boundary_index_compares_pairs_across_borders_with_the_median_of_the_others() -> None:
    errors = [1.0, 1.0, 4.0, 1.0, 1.0, 1.0, 2.0]
    assert boundary_index(errors, {2, 6}) == pytest.approx(3.0)
    assert boundary_index([1.0] * 7, {2}) == 1.0
    assert boundary_index([1.0, math.nan, 4.0, 1.0], {1, 2}) == 4.0
    assert math.isnan(boundary_index([1.0, 1.0], set()))


def test_what_the_source_does_at_a_border_by_itself_does_not_count() -> None:
    source = [1.0, 1.0, 5.0, 1.0, 1.0]
    assert relative_boundary_index([2.0, 2.0, 10.0, 2.0, 2.0], source, {2}) == pytest.approx(1.0)
    assert relative_boundary_index([2.0, 2.0, 20.0, 2.0, 2.0], source, {2}) == pytest.approx(2.0)


def test_pairs_of_borders_and_of_knots() -> None:
    assert pairs_across([0, 8, 16], 17) == {7, 15}
    assert pairs_touching([0, 8, 16], 17) == {0, 7, 8, 15}


def test_a_seam_raises_the_index_by_its_energy() -> None:
    """Noise s per frame costs 2 s^2 between any two frames; a step of d at the borders adds d^2 there."""
    step, sigma = 6 / 255, 5 / 255
    source = still(25)
    output = [
        0.25 + 0.5 * frame + sigma * noise(i) + step * ((i // 8) % 2) for i, frame in enumerate(source)
    ]
    exact = [warp_error(codes(a), codes(b), known(0, 0)) for a, b in itertools.pairwise(output)]
    expected = 1 + step**2 / (2 * sigma**2)
    assert boundary_index(exact, pairs_across(range(0, 25, 8), 25)) == pytest.approx(expected, rel=0.03)
    without = [0.25 + 0.5 * frame + sigma * noise(i) for i, frame in enumerate(source)]
    plain = [warp_error(codes(a), codes(b), known(0, 0)) for a, b in itertools.pairwise(without)]
    assert boundary_index(plain, pairs_across(range(0, 25, 8), 25)) == pytest.approx(1.0, abs=0.03)


# Flicker, delta, tOF


def test_static_flicker_is_the_mean_change_where_the_source_rests() -> None:
    source = still(2)
    source[1] = source[1].copy()
    source[1][:30, :40] = texture(96, 128, seed=8)[:30, :40]
    output = [0.25 + 0.5 * frame for frame in source]
    output[1] = output[1] + 4 / 255
    pair = Pair(*(codes(frame) for frame in (*output, *source)))
    flow = motion_between(pair.source_here, pair.source_there).flow
    resting = static_pixels(pair, flow)
    assert not resting[5:25, 5:35].all()
    assert resting[60:, 80:].all()
    assert static_flicker(pair, flow) == pytest.approx(4.0, abs=0.05)
    assert static_flicker(Pair(*[pair.source_here] * 4), flow * 0) == 0
    assert math.isnan(static_flicker(pair, flow * 0 + 1))


def test_contrast_is_no_flicker_and_noise_is() -> None:
    source = [0.25 + 0.5 * frame for frame in pan(2, (3.0, 0.0))]
    frames = [frame.astype(np.float32) for frame in source]
    twice = [(2 * frame - 0.5).astype(np.float32) for frame in source]
    assert flicker_excess(Pair(*twice, *frames)) == pytest.approx(0, abs=1e-3)
    grey = [np.full((96, 128, 3), 0.5, np.float32)] * 2
    assert flicker_excess(Pair(*grey, *frames)) < 0
    resting = [frames[0]] * 2
    noisy = [(frame + SIGMA * noise(i)).astype(np.float32) for i, frame in enumerate(resting)]
    # The mean size of a difference of two normals is 2 s / sqrt(pi), times the gain of matching contrasts.
    variance = frames[0].var((0, 1))
    gain = np.sqrt(variance / (variance + SIGMA**2)).mean()
    found = flicker_excess(Pair(*noisy, *resting))
    assert found == pytest.approx(gain * 255 * SIGMA * 2 / math.sqrt(math.pi), rel=0.03)


def test_delta_is_the_size_of_the_change_that_the_source_does_not_have() -> None:
    source = pan(2, (2.0, 0.0))
    lifted = [0.5 * source[0], 0.5 * source[0] + (source[1] - source[0]) + 3 / 255]
    pair = Pair(*(frame.astype(np.float32) for frame in (*lifted, *source)))
    assert delta(pair).error == pytest.approx(3.0, rel=1e-3)
    assert delta_psnr([delta(pair).mse]) == pytest.approx(-20 * math.log10(3 / 255), abs=0.01)
    assert delta(Pair(*[codes(source[0])] * 4)) == Delta(0.0, 0.0)
    assert delta_psnr([0.0, 0.0]) == math.inf


def test_the_delta_of_independent_noise_is_its_mean_difference() -> None:
    source = [0.25 + 0.5 * frame for frame in still(4)]
    noisy = [frame + SIGMA * noise(i) for i, frame in enumerate(source)]
    found = scores_of(source, noisy, distances=(1,))
    assert found.delta_error == pytest.approx(255 * SIGMA * 2 / math.sqrt(math.pi), rel=0.03)
    assert found.delta_psnr == pytest.approx(-10 * math.log10(2 * SIGMA**2), abs=0.1)
    assert found.static_flicker == pytest.approx(found.delta_error, rel=0.01)


def test_tof_is_the_difference_of_motions_in_pixels() -> None:
    flow = np.full((10, 10, 2), (1.0, 2.0), np.float32)
    assert flow_difference(flow, flow + np.array([0.5, -0.25], np.float32)) == pytest.approx(0.75)
    slow, fast = pan(3, (1.0, 0.0)), pan(3, (2.0, 0.0))
    assert scores_of(slow, fast, distances=(1,)).tof == pytest.approx(1.0, abs=0.3)
    assert scores_of(slow, slow, distances=(1,)).tof == 0


# The stream


def test_a_video_that_ends_before_its_source_is_refused() -> None:
    with pytest.raises(ValueError):
        scores_of(still(3), still(2))


def test_frames_are_taken_one_at_a_time_and_let_go() -> None:
    alive = 0
    most = 0

    class Counted(np.ndarray):
        def __del__(self) -> None:
            nonlocal alive
            alive -= self.base is None

    def frames() -> Iterator[np.ndarray]:
        nonlocal alive, most
        for i in range(60):
            frame = np.full((16, 16, 3), i, np.uint8).copy().view(Counted).copy()
            alive += frame.base is None
            most = max(most, alive)
            yield frame

    scores = temporal_scores(iter([np.zeros((16, 16, 3), np.uint8)] * 60), frames(), (1, 4))
    assert scores.frames == 60
    assert most <= 8


def test_motions_of_a_video_are_those_of_its_pairs() -> None:
    frames = [codes(frame) for frame in pan(3, (1.0, 0.0))]
    found = list(motions(frames))
    assert len(found) == 2
    assert np.array_equal(found[1].flow, motion_between(frames[1], frames[2]).flow)
