"""Flicker is counted in frames of the video, so a chunk's frames are restored as in any other chunk."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jobs.spec import parse_spec
from operators.degradations.flicker import rolling_gains
from pipeline.enhancer import Enhancer
from pipeline.errors import SpecError
from pipeline.settings import ConsistencySettings
from tests.pipeline.test_enhancer import clip, config, task

FLICKER = {"kind": "flicker", "depth": 0.3, "cycles_per_frame": 0.37, "rows_per_cycle": 20.0, "noise": 0.01}
SOLVER = {"name": "diffpir", "steps": 20, "strength": 0.1}


@pytest.mark.parametrize("batch", [1, 2])
def test_frames_keep_the_exposure_of_their_place_in_the_video_in_every_chunk(batch: int) -> None:
    how = ConsistencySettings(sharing="none", knot_every=4, frames_per_batch=batch)
    item = {"restore": {"degradation": FLICKER, "solver": SOLVER}}
    enhancer = Enhancer(config(item, consistency=how))
    truth = clip(9, 30, 44)
    gains = rolling_gains(range(9), 30, 0.3, 0.37, 20.0).numpy()[:, :, None, None]
    dark = np.rint(truth * gains * 0.75).clip(0, 255).astype(np.uint8)
    whole = enhancer.chunk(task(*range(9)), dark, (0, 4, 8), None, {})
    cut = [enhancer.chunk(task(*range(4)), dark[:4], (0, 4), None, {})]
    cut.append(enhancer.chunk(task(*range(4, 9)), dark[4:], (4, 8), None, {}))
    assert np.array_equal(whole, np.concatenate(cut))
    steady = truth * 0.75
    assert abs(whole - steady).mean() < 0.4 * abs(dark - steady).mean()
    enhancer.close()


def test_the_phase_moves_the_pulses_and_frames_are_counted_from_the_video_s_first() -> None:
    later = rolling_gains([5, 6], 4, 0.2, 0.25, 8.0)
    assert torch.equal(later, rolling_gains(range(7), 4, 0.2, 0.25, 8.0)[5:])
    moved = rolling_gains([0, 1], 4, 0.2, 0.25, 8.0, phase=0.25)
    torch.testing.assert_close(moved, rolling_gains([1, 2], 4, 0.2, 0.25, 8.0))


@pytest.mark.parametrize(
    "kind", ["temporal_average", "temporal_subsampling", "frame_interpolation", "interlace"]
)
def test_what_changes_the_number_of_frames_is_refused_with_what_would_work(kind: str) -> None:
    item = {"restore": {"degradation": {"kind": kind, "rate": 2}}}
    with pytest.raises(SpecError, match=r"changes the number of frames.*use one of .*denoise.*flicker"):
        parse_spec({"name": "time", "source": "in", "output": "out", "enhance": [item]})


def test_flicker_goes_with_solvers_that_take_affine_degradations() -> None:
    item = {"restore": {"degradation": FLICKER, "solver": {"name": "treg"}}}
    with pytest.raises(SpecError, match=r"treg needs a linear degradation.*dpir.*diffpir"):
        parse_spec({"name": "time", "source": "in", "output": "out", "enhance": [item]})
    parse_spec(
        {
            "name": "time",
            "source": "in",
            "output": "out",
            "enhance": [{"restore": {**item["restore"], "solver": {"name": "diffpir"}}}],
        }
    )
