"""Frames that are restored together: windows lie on the grid of the scene, whatever chunk they travel in."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from jobs.spec import parse_spec
from operators.solvers.base import LatentPrior, State
from operators.solvers.svi import Svi
from operators.solvers.video_latent import VideoLatent
from pipeline.enhancer import Enhancer
from pipeline.enhancer_config import FrameTask
from pipeline.errors import SpecError
from pipeline.settings import ConsistencySettings
from pipeline.windows import Window, halo_of, windows_of
from tests.pipeline.test_enhancer import clip, config, task

FRAMES = 14
HOW = ConsistencySettings(sharing="none", knot_every=4)
BLUR = {"kind": "temporal_blur", "taps": 3, "noise": 0.01}
SCALE = {"kind": "super_resolution", "scale": 2, "kernel": "area", "noise": 0.02}


def stage(degradation: dict[str, Any], **solver: Any) -> dict[str, Any]:
    return {"restore": {"degradation": degradation, "solver": solver}}


DEBLUR = stage(BLUR, name="dpir", steps=1)
FLOWING = stage(SCALE, name="video_latent", steps=20, strength=0.1, flow=1.0)
WHOLE = stage(BLUR, name="svi", steps=20, strength=0.1)


def windowed(item: dict[str, Any], frames: np.ndarray, first: int, last: int) -> FrameTask:
    """The task of a chunk, with its halo, of a scene that is all of ``frames``."""
    halo = halo_of((item,))
    begin, end = max(0, first - halo), min(len(frames), last + halo)
    around = {ordinal: frames[ordinal] for ordinal in range(begin, end)}
    own = task(*range(first, last))
    return dataclasses.replace(own, around=around, halo=halo, scene_range=(0, len(frames)))


def averaged(frames: np.ndarray) -> np.ndarray:
    """Means over three frames; the ends are replicated."""
    padded = np.concatenate([frames[:1], frames, frames[-1:]]).astype(float)
    return np.rint((padded[:-2] + padded[1:-1] + padded[2:]) / 3).astype(np.uint8)


def test_windows_follow_the_grid_of_the_scene_and_end_with_it() -> None:
    whole = windows_of(range(14), (0, 4, 8, 13), 2, (0, 14))
    assert whole == [
        Window(0, 4, 0, 6, False, True),
        Window(4, 8, 2, 10, True, True),
        Window(8, 14, 6, 14, True, False),
    ]
    cut = [*windows_of(range(4), (0, 4), 2, (0, 14)), *windows_of(range(4, 14), (4, 8, 13), 2, (0, 14))]
    assert cut == whole
    assert windows_of([5], (5,), 2, (5, 6)) == [Window(5, 6, 5, 6, False, False)]
    assert whole[1].measured(1) == (3, 4, 5, 6, 7, 8)
    assert whole[0].measured(1) == (0, 1, 2, 3, 4)


def test_a_halo_reaches_as_far_as_the_measurements_of_a_frame_do() -> None:
    assert halo_of((DEBLUR,)) == 2
    assert halo_of((stage({**BLUR, "taps": 7}, name="dpir"),)) == 6
    assert halo_of((FLOWING,)) == 4
    assert halo_of((stage(SCALE, name="svi"),)) == halo_of((stage(SCALE, name="lvtino"),)) == 4
    assert halo_of((stage(SCALE, name="video_latent"),)) == 0
    assert halo_of(()) == 0


@pytest.mark.parametrize("item", [DEBLUR, FLOWING, WHOLE], ids=["temporal_blur", "flow", "svi"])
def test_coupled_frames_are_the_same_for_any_cut_into_chunks(item: dict[str, Any]) -> None:
    truth = clip(FRAMES, 16, 24)
    given = truth if item is FLOWING else averaged(truth)
    enhancer = Enhancer(config(item, consistency=HOW))

    def chunk(first: int, last: int, grid: tuple[int, ...]) -> np.ndarray:
        return enhancer.chunk(windowed(item, given, first, last), given[first:last], grid, None, {})

    whole = chunk(0, 14, (0, 4, 8, 13))
    cut = [chunk(0, 4, (0, 4)), chunk(4, 8, (4, 8)), chunk(8, 14, (8, 13))]
    enhancer.close()
    assert np.array_equal(whole, np.concatenate(cut))
    if item is DEBLUR:
        assert not np.array_equal(whole, given)
        assert abs(averaged(whole).astype(int) - given).mean() < 2.0


def test_solvers_of_clips_give_all_windows_of_a_scene_one_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    step = Svi.step

    def watched(self: Svi, i: int, state: State, prior: LatentPrior) -> State:
        if i == 0:
            seen.append(state.normal(i, "renoise"))
        return step(self, i, state, prior)

    monkeypatch.setattr(Svi, "step", watched)
    frames = clip(10, 16, 24)
    enhancer = Enhancer(config(WHOLE, consistency=HOW))
    enhancer.chunk(windowed(WHOLE, frames, 0, 10), frames, (0, 4, 9), None, {})
    enhancer.close()
    draws = torch.cat(seen)
    assert len(draws) == 8 + 10
    assert float((draws - draws[0]).abs().max()) < 1e-6


def test_the_flow_loss_is_used_when_asked_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    step = VideoLatent.step

    def watched(self: VideoLatent, *rest: Any) -> Any:
        seen.append(None if self.flows is None else tuple(self.flows.forward.shape))
        return step(self, *rest)

    monkeypatch.setattr(VideoLatent, "step", watched)
    frames = clip(6, 16, 24)
    made = []
    for weight in (1.0, 0.0):
        item = stage(SCALE, name="video_latent", steps=20, strength=0.1, flow=weight)
        enhancer = Enhancer(config(item, consistency=HOW))
        own = windowed(item, frames, 0, 6) if weight else task(*range(6))
        made.append(enhancer.chunk(own, frames, (0, 5), None, {}))
        cells = 2 * 16 // enhancer.model.vae_factor, 2 * 24 // enhancer.model.vae_factor
        enhancer.close()
        assert set(seen) == {(5, 2, *cells) if weight else None}
        seen.clear()
    assert not np.array_equal(*made)


@pytest.mark.parametrize(
    ("enhance", "changes", "told"),
    [
        ([DEBLUR], {}, "set sharing: none"),
        ([stage(SCALE, name="svi")], {}, "set sharing: none"),
        ([stage(BLUR, name="lvtino"), DEBLUR], {"consistency": {"sharing": "none"}}, "put it first"),
        ([stage(SCALE, name="dpir"), DEBLUR], {"consistency": {"sharing": "none"}}, "put it first"),
        ([stage(BLUR, name="psld")], {"consistency": {"sharing": "none"}}, "use one of dpir, diffpir"),
        ([stage({**BLUR, "taps": 4}, name="dpir")], {"consistency": {"sharing": "none"}}, "4 is even"),
        (
            [{"restore": {"degradation": "auto", "solver": {"name": "video_latent", "flow": 1.0}}}],
            {"consistency": {"sharing": "none"}},
            "name it, or take another solver",
        ),
    ],
)
def test_what_cannot_be_coupled_is_refused_with_what_to_do(
    enhance: list[dict[str, Any]], changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(SpecError, match=told):
        parse_spec({"name": "time", "source": "in", "output": "out", "enhance": enhance, **changes})
    spec = {"name": "time", "source": "in", "output": "out", "consistency": {"sharing": "none"}}
    parse_spec({**spec, "enhance": [DEBLUR, stage(SCALE, name="dpir")]})
