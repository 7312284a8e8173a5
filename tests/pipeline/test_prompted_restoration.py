"""Restoring with a prompt: an SD-class checkpoint with text encoder and tokenizer, through the Enhancer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.spec import parse_spec
from pipeline.enhancer import Enhancer
from pipeline.enhancer_config import EnhancerConfig, FrameTask
from pipeline.settings import ConsistencySettings
from tests.support.tiny_models import save_tiny_sd, save_tiny_sdxl

FRAMES = np.random.default_rng(5).integers(40, 216, (2, 32, 32, 3)).astype(np.uint8)


@pytest.fixture(scope="module", params=[save_tiny_sd, save_tiny_sdxl], ids=["SD1.5", "SDXL"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = request.param(tmp_path_factory.mktemp("prompted"))
    return made


TWICE = {"kind": "super_resolution", "scale": 2, "noise": 0.02}
HOLE = {"kind": "inpainting", "boxes": [[4, 4, 20, 20]]}


def restored(
    model: Path, solver: dict[str, Any], degradation: dict[str, Any] = TWICE, **prompting: Any
) -> np.ndarray[Any, Any]:
    """What a job file with these words does to the frames."""
    item = {"restore": {"degradation": degradation, "solver": solver, **prompting}}
    spec = parse_spec(
        {"name": "p", "source": "in", "output": "out", "model": str(model), "enhance": [item]}
    ).to_settings()
    enhancer = Enhancer(
        EnhancerConfig(
            model=spec.model,
            precision="fp32",
            device="cpu",
            enhance=spec.enhance,
            consistency=ConsistencySettings(sharing="none"),
            seed=3,
            torch_threads=1,
        )
    )
    try:
        pictures = enhancer.chunk(FrameTask("digest", 0, (0, 1)), FRAMES, (0, 1), None, {})
    finally:
        enhancer.close()
    return pictures


TREG = {"name": "treg", "steps": 6, "strength": 0.5, "last_fit": False}


def test_the_words_of_a_prompt_change_what_is_restored_and_guidance_how_much(model: Path) -> None:
    without = restored(model, TREG)
    told = restored(model, TREG, prompt="ink")
    other = restored(model, TREG, prompt="in")
    guided = restored(model, TREG, prompt="ink", guidance=5.0)
    found = [without, told, other, guided]
    for i, one in enumerate(found):
        for another in found[i + 1 :]:
            assert not np.array_equal(one, another)
    assert np.array_equal(told, restored(model, TREG, prompt="ink"))


def test_guidance_of_one_is_the_prompt_alone(model: Path) -> None:
    assert np.array_equal(
        restored(model, TREG, prompt="ink"), restored(model, TREG, prompt="ink", guidance=1.0)
    )


@pytest.mark.parametrize("name", ["ldps", "diffpir", "video_latent"])
def test_the_other_rule_of_guidance_goes_with_samplers_of_every_make(name: str, model: Path) -> None:
    solver = {"name": name, "steps": 4, "strength": 0.5}
    plain = restored(model, solver, prompt="ink", guidance=2.0)
    other = restored(model, solver, prompt="ink", guidance=0.6, rule="cfgpp")
    assert not np.array_equal(plain, other)


def test_dreamsampler_reads_the_prompt_inside_holes(model: Path) -> None:
    solver = {"name": "dreamsampler", "steps": 4, "strength": 0.5}
    told, other = (restored(model, solver, HOLE, prompt=words) for words in ("ink", "in"))
    assert not np.array_equal(told[:, 4:24, 4:24], other[:, 4:24, 4:24])
