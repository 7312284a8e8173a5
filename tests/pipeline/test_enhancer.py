"""The Enhancer directly, without Ray: arrays in, arrays out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.enhancer import Enhancer
from pipeline.enhancer_config import EnhancerConfig, FrameTask
from pipeline.errors import SourceError, SpecError
from pipeline.settings import ConsistencySettings
from tests.pipeline.graph.jobs import stylize_item
from tests.support.tiny_models import save_tiny_sd, save_tiny_sdxl

DENOISE = {"restore": {"degradation": {"kind": "denoise", "noise": 0.05}, "solver": {"name": "dpir"}}}
STYLIZE = stylize_item("style.png")


def config(*enhance: dict[str, Any], **changes: Any) -> EnhancerConfig:
    facts: dict[str, Any] = {
        "model": "embedded",
        "precision": "fp32",
        "device": "cpu",
        "enhance": enhance,
        "consistency": ConsistencySettings(knot_every=4, anchors=2),
        "seed": 7,
        "torch_threads": 1,
    }
    return EnhancerConfig(**{**facts, **changes})


def clip(frames: int, height: int = 32, width: int = 48, dtype: type = np.uint8) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    peak = np.iinfo(dtype).max
    waves = [0.5 + 0.3 * np.sin((x + 2 * n) / 6.0) + 0.15 * np.cos((y - n) / 4.0) for n in range(frames)]
    return np.stack([np.stack([w, 1 - w, w**2], -1) * peak for w in waves]).clip(0, peak).astype(dtype)


def task(*ordinals: int) -> FrameTask:
    return FrameTask("digest", 0, ordinals)


@pytest.fixture(scope="module")
def styled() -> Enhancer:
    """Stylizes with knots at 0, 4, 8 and anchors at 0 and 8 of a nine-frame scene."""
    first = Enhancer(config(STYLIZE))
    style = first.style(0, clip(1, 64, 64)[0][::-1])
    first.close()
    return Enhancer(config(STYLIZE), {0: style})


def references(enhancer: Enhancer, frames: np.ndarray) -> tuple[bytes, dict[int, bytes]]:
    anchors = enhancer.anchors(task(0, 8), frames[[0, 8]])
    return anchors, enhancer.knots(task(4), frames[[4]], anchors)


def chunk(enhancer: Enhancer, frames: np.ndarray, ordinals: Sequence[int], grid: Sequence[int]) -> np.ndarray:
    anchors, knots = references(enhancer, frames)
    mine = {ordinal: blob for ordinal, blob in knots.items() if ordinal in grid}
    return enhancer.chunk(task(*ordinals), frames[list(ordinals)], grid, anchors, mine)


def test_a_scene_cut_into_one_chunk_or_two_gives_identical_pictures(styled: Enhancer) -> None:
    frames = clip(9)
    whole = chunk(styled, frames, range(9), (0, 4, 8))
    left = chunk(styled, frames, range(4), (0, 4))
    right = chunk(styled, frames, range(4, 9), (4, 8))
    assert np.array_equal(whole, np.concatenate([left, right]))
    assert whole.shape == frames.shape
    assert not np.array_equal(whole, frames)


def test_batches_of_two_do_not_depend_on_the_chunk_either(styled: Enhancer) -> None:
    how = ConsistencySettings(knot_every=4, anchors=2, frames_per_batch=2)
    enhancer = Enhancer(config(STYLIZE, consistency=how))
    enhancer.styles = styled.styles
    frames = clip(9)
    whole = chunk(enhancer, frames, range(9), (0, 4, 8))
    right = chunk(enhancer, frames, range(4, 9), (4, 8))
    enhancer.close()
    assert np.array_equal(whole[4:], right)


def test_knots_keep_the_picture_they_were_given_as_references(styled: Enhancer) -> None:
    from safetensors.numpy import load

    frames = clip(9)
    anchors, knots = references(styled, frames)
    whole = styled.chunk(task(*range(9)), frames, (0, 4, 8), anchors, knots)
    assert np.array_equal(whole[4], load(knots[4])["pictures"][0])
    assert np.array_equal(whole[[0, 8]], load(anchors)["pictures"])


def test_a_group_of_knots_leaves_the_bytes_of_each_alone(styled: Enhancer) -> None:
    frames = clip(9)
    anchors = styled.anchors(task(0, 8), frames[[0, 8]])
    group = styled.knots(task(4, 2, 6), frames[[4, 2, 6]], anchors)
    assert list(group) == [4, 2, 6]
    for ordinal in group:
        assert styled.knots(task(ordinal), frames[[ordinal]], anchors) == {ordinal: group[ordinal]}
    assert len(set(group.values())) == 3


def test_global_random_state_and_earlier_work_leave_no_trace(styled: Enhancer) -> None:
    frames = clip(9)
    first = chunk(styled, frames, range(4), (0, 4))
    torch.manual_seed(1234)
    torch.randn(100)
    chunk(styled, frames[::-1], range(4), (0, 4))
    assert np.array_equal(chunk(styled, frames, range(4), (0, 4)), first)


def test_sixteen_bit_frames_come_out_as_sixteen_bit_with_finer_steps() -> None:
    enhancer = Enhancer(config(DENOISE, consistency=ConsistencySettings(sharing="none", knot_every=4)))
    deep = clip(2, dtype=np.uint16)
    out = enhancer.chunk(task(0, 1), deep, (0, 1), None, {})
    enhancer.close()
    assert out.dtype == np.uint16
    assert len(np.unique(out)) > 256
    assert abs(out.astype(float) - deep).mean() < 0.05 * 65535


def test_odd_sizes_are_padded_for_the_model_and_cropped_back() -> None:
    item = {
        "restore": {
            "degradation": {"kind": "super_resolution", "scale": 2, "kernel": "area", "noise": 0.0},
            "solver": {"name": "dpir", "steps": 1},
        }
    }
    enhancer = Enhancer(config(item, consistency=ConsistencySettings(sharing="none", knot_every=4)))
    small = clip(1, 23, 37)
    out = enhancer.chunk(task(0), small, (0,), None, {})
    enhancer.close()
    assert out.shape == (1, 46, 74, 3)
    again = out.reshape(1, 23, 2, 37, 2, 3).mean(axis=(2, 4))
    assert abs(again - small).mean() < 4


def test_inpainting_fills_the_hole_and_keeps_the_rest() -> None:
    mask = np.full((32, 48), 255, np.uint8)
    mask[10:18, 16:28] = 0
    degradation = {"kind": "inpainting", "mask": "m.png", "noise": 0.0}
    item = {"restore": {"degradation": degradation, "solver": {"name": "dpir"}}}
    how = ConsistencySettings(sharing="none", knot_every=4)
    enhancer = Enhancer(config(item, consistency=how, masks={0: mask}))
    truth = clip(1)
    broken = truth.copy()
    broken[:, 10:18, 16:28] = 0
    out = enhancer.chunk(task(0), broken, (0,), None, {})
    enhancer.close()
    hole = mask == 0
    assert abs(out[0][~hole].astype(int) - truth[0][~hole]).max() <= 1
    assert abs(out[0][hole].astype(int) - truth[0][hole]).mean() < 25


def test_a_mask_of_another_size_is_refused_naming_the_stage() -> None:
    item = {"restore": {"degradation": {"kind": "inpainting", "mask": "m.png"}, "solver": {"name": "dpir"}}}
    how = ConsistencySettings(sharing="none", knot_every=4)
    enhancer = Enhancer(config(item, consistency=how, masks={0: np.zeros((99, 99), np.uint8)}))
    with pytest.raises(SourceError, match=r"enhance\.0\.restore"):
        enhancer.chunk(task(0), clip(1), (0,), None, {})
    enhancer.close()


def test_a_model_that_does_not_exist_is_a_spec_error_of_the_field_model() -> None:
    with pytest.raises(SpecError) as caught:
        Enhancer(config(DENOISE, model="/nowhere"))
    assert caught.value.field == "model"


def test_two_stages_in_a_row_agree_across_chunks_too(styled: Enhancer) -> None:
    item = {
        "restore": {
            "degradation": {"kind": "super_resolution", "scale": 2, "kernel": "area", "noise": 0.02},
            "solver": {"name": "dpir", "steps": 2},
        }
    }
    enhancer = Enhancer(config(item, STYLIZE))
    enhancer.styles = {1: styled.styles[0]}
    frames = clip(9)
    whole = chunk(enhancer, frames, range(9), (0, 4, 8))
    right = chunk(enhancer, frames, range(4, 9), (4, 8))
    enhancer.close()
    assert whole.shape == (9, 64, 96, 3)
    assert np.array_equal(whole[4:], right)


@pytest.mark.parametrize("sharing", ["none", "anchors", "knots_hard"])
def test_every_sharing_policy_runs_and_differs_from_knots(styled: Enhancer, sharing: str) -> None:
    how = ConsistencySettings(knot_every=4, anchors=2, sharing=sharing)  # type: ignore[arg-type]
    enhancer = Enhancer(config(STYLIZE, consistency=how))
    enhancer.styles = styled.styles
    frames = clip(9)
    reference = chunk(styled, frames, range(9), (0, 4, 8))
    if sharing == "none":
        found = enhancer.chunk(task(*range(9)), frames, (0, 4, 8), None, {})
    elif sharing == "anchors":
        anchors = enhancer.anchors(task(0, 8), frames[[0, 8]])
        found = enhancer.chunk(task(*range(9)), frames, (0, 4, 8), anchors, {})
        # Frames meet an anchor once less where there are no knots, and anchors count themselves as often.
        assert not np.array_equal(found[[0, 8]], reference[[0, 8]])
    else:
        found = chunk(enhancer, frames, range(9), (0, 4, 8))
        assert np.array_equal(found[4], reference[4])
    enhancer.close()
    assert found.shape == reference.shape
    assert not np.array_equal(found[1:4], reference[1:4])


def test_psld_runs_on_the_embedded_model_and_respects_the_measurement() -> None:
    item = {
        "restore": {
            "degradation": {"kind": "super_resolution", "scale": 2, "kernel": "area", "noise": 0.02},
            "solver": {"name": "psld", "steps": 30},
        }
    }
    enhancer = Enhancer(config(item, consistency=ConsistencySettings(sharing="none", knot_every=4)))
    small = clip(1)
    out = enhancer.chunk(task(0), small, (0,), None, {})
    again = enhancer.chunk(task(0), small, (0,), None, {})
    enhancer.close()
    assert np.array_equal(out, again)
    residual = out.reshape(1, 32, 2, 48, 2, 3).mean(axis=(2, 4)) - small
    untouched = 128.0 - small
    assert (residual**2).mean() < 0.05 * (untouched**2).mean()


@pytest.mark.parametrize("save_model", [save_tiny_sd, save_tiny_sdxl])
def test_stock_layouts_with_prompts_and_guidance_agree_across_chunks(
    save_model: Callable[[Path], Path], tmp_path: Path
) -> None:
    item = copy.deepcopy(STYLIZE)
    item["stylize"] |= {"prompt": "ink", "guidance": 3.0}
    item["stylize"]["method"] |= {"steps": 2, "strength": 1.0, "norms": True}
    facts = config(item, model=str(save_model(tmp_path)))
    first = Enhancer(facts)
    style = first.style(0, clip(1, 64, 64)[0][::-1])
    first.close()
    enhancer = Enhancer(facts, {0: style})
    frames = clip(9, 40, 72)
    whole = chunk(enhancer, frames, range(9), (0, 4, 8))
    right = chunk(enhancer, frames, range(4, 9), (4, 8))
    enhancer.close()
    assert whole.shape == frames.shape
    assert whole.std() > 1
    assert np.array_equal(whole[4:], right)


def test_half_precision_stays_close_to_single_and_is_as_repeatable(styled: Enhancer) -> None:
    half = Enhancer(config(STYLIZE, precision="bf16"))
    half.styles = styled.styles
    frames = clip(9)
    one, two = chunk(half, frames, range(4), (0, 4)), chunk(half, frames, range(4), (0, 4))
    half.close()
    full = chunk(styled, frames, range(4), (0, 4))
    error = (one.astype(float) - full).std()
    assert np.array_equal(one, two)
    assert 0 < error < 8


DOUBLED = {
    "restore": {
        "degradation": {"kind": "super_resolution", "scale": 2, "kernel": "area", "noise": 0.0},
        "solver": {"name": "dpir", "steps": 1},
    }
}


def noises(
    enhancer: Enhancer, frames: np.ndarray, cuts: Sequence[Sequence[int]]
) -> dict[int, torch.Tensor]:
    """Per stage the initial noise of every open frame of chunks with the grids ``cuts``."""
    anchors, knots = references(enhancer, frames)
    drawn: dict[int, list[torch.Tensor]] = {}
    draw = enhancer._noise

    def record(
        task: FrameTask, at: int, ordinals: Sequence[int], y: torch.Tensor, *moved: Any
    ) -> torch.Tensor:
        noise = draw(task, at, ordinals, y, *moved)
        drawn.setdefault(at, []).append(noise)
        return noise

    enhancer._noise = record  # type: ignore[method-assign, assignment]
    for grid in cuts:
        last = grid[-1] + (grid[-1] == 8)
        mine = {ordinal: blob for ordinal, blob in knots.items() if ordinal in grid}
        enhancer.chunk(task(*range(grid[0], last)), frames[grid[0] : last], grid, anchors, mine)
    enhancer._noise = draw  # type: ignore[method-assign]
    return {at: torch.cat(rows) for at, rows in drawn.items()}


def test_warped_noise_is_the_same_for_one_chunk_and_for_two_and_moves_with_the_picture() -> None:
    y, x = np.mgrid[0:32, 0:64]
    frames = np.stack([np.sin((x - 4 * n) / 3.0) + np.cos((y + x - 4 * n) / 5.0) for n in range(9)])
    frames = np.repeat(np.rint(60 * frames + 127)[..., None], 3, -1).astype(np.uint8)
    how = ConsistencySettings(knot_every=4, anchors=2, rho=0.0, warp_noise=True)
    enhancer = Enhancer(config(DOUBLED, DENOISE, consistency=how))
    deep = frames.astype(np.uint16) * 257
    whole = noises(enhancer, deep, [(0, 4, 8)])
    cut = noises(enhancer, deep, [(0, 4), (4, 8)])
    enhancer.close()
    for number in (0, 1):
        assert torch.equal(whole[number], cut[number])
        assert whole[number].shape == (6, enhancer.model.latent_channels, 16, 32)
    # Between frames 1 and 3 the picture moves 8 pixels of the source: 4 cells of the doubled latent.
    one, three = whole[1][0], whole[1][2]
    moved, stuck = (float((one[..., 2:-8] * three[..., 2 + by : 26 - 2 + by]).mean()) for by in (4, 0))
    assert moved > 0.3
    assert abs(stuck) < 0.15


def test_unwarped_noise_leaves_no_source_in_the_references() -> None:
    from safetensors.numpy import load

    enhancer = Enhancer(config(DENOISE))
    assert "source" not in load(enhancer.anchors(task(0, 8), clip(9)[[0, 8]]))
    enhancer.close()


SAMPLERS = {
    "diffpir": {"steps": 20, "strength": 0.15},
    "ldps": {"steps": 20, "strength": 0.15, "rows": 1},
    "stsl": {"steps": 10, "strength": 0.2, "averages": 1},
    "video_latent": {"steps": 20, "strength": 0.15},
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_that_draws_at_every_step_gives_the_same_pictures_however_a_scene_is_cut(name: str) -> None:
    """Its noise is keyed by frame and step, so chunks agree bit for bit, and frames do not share theirs."""
    degradation = {"kind": "super_resolution", "scale": 2, "noise": 0.05}
    restore = {"degradation": degradation, "solver": {"name": name, **SAMPLERS[name]}}
    enhancer = Enhancer(config({"restore": restore}))
    frames = np.repeat(clip(1, 16, 24), 9, axis=0)
    whole = chunk(enhancer, frames, range(9), (0, 4, 8))
    left = chunk(enhancer, frames, range(4), (0, 4))
    right = chunk(enhancer, frames, range(4, 9), (4, 8))
    assert np.array_equal(whole, np.concatenate([left, right]))
    assert whole.shape == (9, 32, 48, 3)
    assert not np.array_equal(whole[1], whole[2])


def test_a_model_that_gives_no_numbers_is_an_error_that_names_the_frame_and_no_black_picture() -> None:
    enhancer = Enhancer(config(DENOISE, consistency=ConsistencySettings(sharing="none")))
    frames = clip(3)
    decode = enhancer.model.decode
    calls = []

    def poisoned(z: torch.Tensor) -> torch.Tensor:
        calls.append(z)
        return decode(z) * (float("nan") if len(calls) == poisonous else 1.0)

    poisonous = 0
    enhancer.model.decode = poisoned  # type: ignore[method-assign]
    enhancer.chunk(task(5, 6, 7), frames, (4, 8), None, {})
    poisonous = 2 * len(calls)  # the last decoding, of the last frame
    with pytest.raises(SourceError, match=r"frame 7: .* no finite numbers") as caught:
        enhancer.chunk(task(5, 6, 7), frames, (4, 8), None, {})
    assert caught.value.code == "not_finite"
