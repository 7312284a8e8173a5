"""What enters a stage is padded to sides that both the model and the degradation can take."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from operators.degradations.registry import build_operator
from operators.errors import OperatorError
from pipeline.enhancement.sizes import StageSizes
from pipeline.enhancer import Enhancer
from pipeline.settings import ConsistencySettings
from tests.pipeline.test_enhancer import clip, config, task
from tests.support.tiny_models import save_tiny_bridge

NOISE = {"restore": {"degradation": {"kind": "denoise", "noise": 0.1}, "solver": {"name": "dpir"}}}


def jpeg(chroma: str) -> dict:
    degradation = {"kind": "jpeg", "quality": 30, "chroma": chroma}
    return {"restore": {"degradation": degradation, "solver": {"name": "ldps"}}}


@pytest.mark.parametrize(
    ("stage", "expected"),
    [(NOISE, [24, 40]), (jpeg("4:4:4"), [24, 40]), (jpeg("4:2:0"), [32, 48])],
    ids=["denoise", "4:4:4", "4:2:0"],
)
def test_jpeg_with_halved_chroma_is_padded_to_whole_blocks_of_sixteen(stage: dict, expected: list) -> None:
    sizes = StageSizes((stage,), multiple=8, factor=8)
    y = torch.zeros(1, 3, 24, 36)
    padded = sizes.padded(0, y)
    assert list(padded.shape[2:]) == expected == sizes.padded_sides(0, (24, 36))
    assert sizes.cells(0, (24, 36)) == [side // 8 for side in expected]
    operator = build_operator(stage["restore"]["degradation"], *expected, {})
    assert operator.apply(padded).shape == padded.shape


@pytest.mark.parametrize(
    ("solver", "files", "expected"),
    [
        ("cddb", {"config.json": {"block_out_channels": [8] * 5}}, [32, 48]),
        (
            "lvtino",
            {
                "vae/config.json": {"temperal_downsample": [False, True, True]},
                "transformer/config.json": {"patch_size": [1, 4, 4]},
            },
            [32, 64],
        ),
    ],
)
def test_what_a_solvers_own_network_takes_is_padded_to_as_well(
    solver: str, files: dict, expected: list, tmp_path: Path
) -> None:
    for name, facts in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(facts))
    named = {"name": solver, "checkpoint": str(tmp_path)}
    sizes = StageSizes(({"restore": {**NOISE["restore"], "solver": named}},), multiple=8, factor=8)
    assert sizes.padded_sides(0, (24, 36)) == expected
    named.pop("checkpoint")
    assert sizes.padded_sides(0, (24, 36)) == [24, 40]


def test_a_configuration_that_does_not_say_its_sides_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    named = {"name": "cddb", "checkpoint": str(tmp_path)}
    sizes = StageSizes(({"restore": {**NOISE["restore"], "solver": named}},), multiple=8, factor=8)
    with pytest.raises(OperatorError, match=r"solver\.checkpoint: .*config\.json cannot be read"):
        sizes.padded_sides(0, (24, 36))


def test_a_bridge_restores_frames_of_sides_that_it_does_not_take(tmp_path: Path) -> None:
    bridge = save_tiny_bridge(tmp_path, widths=(8,) * 6)
    item = {
        "restore": {
            "degradation": {"kind": "denoise", "noise": 0.05},
            "solver": {"name": "cddb", "checkpoint": str(bridge), "steps": 2},
        }
    }
    enhancer = Enhancer(config(item, consistency=ConsistencySettings(sharing="none")))
    assert enhancer.sizes.padded_sides(0, (24, 40)) == [32, 64]
    frames = clip(1, 24, 40)
    restored = enhancer.chunk(task(0), frames, (0,), None, {})
    enhancer.close()
    assert restored.shape == frames.shape
    assert restored.dtype == np.uint8
