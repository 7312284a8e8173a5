"""An unknown blur is found once per scene, from its anchors together, and every frame is restored by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from pipeline.enhancer import Enhancer
from pipeline.settings import ConsistencySettings
from pipeline.sharing_policies import needs_anchors
from tests.pipeline.test_enhancer import clip, config, task

BLUR = {
    "kind": "deblur",
    "kernel": "motion",
    "length": 3.0,
    "angle": 0.0,
    "padding": "reflect",
    "noise": 0.02,
}
BLIND = {"name": "blind_dps", "steps": 10, "strength": 0.2, "kernel_rate": 0.05}
ITEM: dict[str, Any] = {"restore": {"degradation": BLUR, "solver": BLIND}}


def test_every_scene_has_anchors_to_learn_from_whatever_frames_share() -> None:
    assert needs_anchors(ConsistencySettings(sharing="none"), (ITEM,))
    other = {"restore": {"degradation": BLUR, "solver": {"name": "dpir"}}}
    assert not needs_anchors(ConsistencySettings(sharing="none"), (other,))
    assert needs_anchors(ConsistencySettings(sharing="knots"), (other,))
    assert not needs_anchors(ConsistencySettings(sharing="knots"), ())


@pytest.mark.parametrize("sharing", ["none", "knots"])
def test_all_frames_of_a_scene_use_the_blur_of_its_anchors_however_it_is_cut(sharing: str) -> None:
    how = ConsistencySettings(sharing=sharing, knot_every=4, anchors=2)  # type: ignore[arg-type]
    enhancer = Enhancer(config(ITEM, consistency=how))
    frames = clip(9, 16, 24)
    anchors = enhancer.anchors(task(0, 8), frames[[0, 8]])
    knots = enhancer.knots(task(4), frames[[4]], anchors) if sharing == "knots" else {}

    def chunk(first: int, last: int, grid: tuple[int, ...], scene: bytes) -> np.ndarray:
        mine = {ordinal: blob for ordinal, blob in knots.items() if ordinal in grid}
        return enhancer.chunk(task(*range(first, last)), frames[first:last], grid, scene, mine)

    arrays = load(anchors)
    kernel = arrays["0/learned/kernel"]
    assert kernel.sum() == pytest.approx(1.0, abs=1e-5)
    assert kernel.min() >= 0.0
    assert not np.allclose(kernel[1], 1.0 / 3.0, atol=1e-4)
    whole = chunk(0, 9, (0, 4, 8), anchors)
    assert np.array_equal(whole[:4], chunk(0, 4, (0, 4), anchors))
    assert np.array_equal(whole[4:], chunk(4, 9, (4, 8), anchors))
    blurrier = np.zeros((5, 5), np.float32)
    blurrier[2] = 0.2
    other = chunk(0, 4, (0, 4), save({**arrays, "0/learned/kernel": blurrier}))
    assert not np.array_equal(whole[1:4], other[1:4])
    enhancer.close()
