"""LVTINO in windows of a scene, with a few-step model and a video model of the real classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.enhancer import Enhancer
from pipeline.settings import ConsistencySettings
from tests.pipeline.test_enhancer import clip, config
from tests.pipeline.test_windows import SCALE, stage, windowed
from tests.support.tiny_models import save_tiny_few_step, save_tiny_wan


def test_chunks_of_a_scene_are_restored_as_the_whole_scene_is(tmp_path: Path) -> None:
    model = save_tiny_few_step(tmp_path / "lcm")
    (tmp_path / "wan").mkdir()
    item = stage(SCALE, name="lvtino", checkpoint=str(save_tiny_wan(tmp_path / "wan")))
    how = ConsistencySettings(sharing="none", knot_every=2)
    enhancer = Enhancer(config(item, model=str(model), consistency=how))
    frames = clip(4, 32, 32)
    whole = enhancer.chunk(windowed(item, frames, 0, 4), frames, (0, 2, 3), None, {})
    cut = [enhancer.chunk(windowed(item, frames, 0, 2), frames[:2], (0, 2), None, {})]
    cut.append(enhancer.chunk(windowed(item, frames, 2, 4), frames[2:], (2, 3), None, {}))
    enhancer.close()
    assert whole.shape == (4, 64, 64, 3)
    assert np.array_equal(whole, np.concatenate(cut))
    # The measurement is kept whatever the random weights make of the rest.
    seen = whole.reshape(4, 32, 2, 32, 2, 3).mean((2, 4))
    assert abs(seen - frames).mean() < 25.0
