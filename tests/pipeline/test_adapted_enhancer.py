"""What a job adds to its model, inside the Enhancer: style, anchors, knots and frames see it alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from operators.models import EMBEDDED
from pipeline.enhancer import Enhancer
from pipeline.errors import SpecError
from tests.operators.adapters.loras import factors
from tests.pipeline.test_enhancer import STYLIZE, chunk, clip, config

pytest.importorskip("peft", reason="LoRA is read by peft: pip install 'reelweave[lora]'")


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Changes of every projection of queries in the decoder."""
    unet = UNet2DConditionModel.from_pretrained(EMBEDDED, subfolder="unet", low_cpu_mem_usage=False)
    state = {}
    for seed, (name, weight) in enumerate(unet.named_parameters()):
        if name.startswith("up_blocks") and name.endswith("attn1.to_q.weight"):
            down, up = factors(weight, 2, seed)
            whole = f"unet.{name.removesuffix('.weight')}"
            state |= {f"{whole}.lora_A.weight": 0.1 * down, f"{whole}.lora_B.weight": up}
    file = tmp_path_factory.mktemp("lora") / "ink.safetensors"
    save_file(state, file)
    return file


def styled(*adapters: dict[str, Any]) -> tuple[bytes, np.ndarray]:
    """A style reference and five frames that read it, anchors and knots."""
    enhancer = Enhancer(config(STYLIZE, adapters=adapters))
    bank = enhancer.style(0, clip(1, 64, 64)[0][::-1])
    enhancer.adopt({0: bank})
    frames = clip(9)
    made = chunk(enhancer, frames, range(5), (0, 4))
    enhancer.close()
    return bank, made


def test_a_lora_changes_style_and_frames_and_one_of_weight_nothing_leaves_the_bits_alone(lora: Path) -> None:
    plain_bank, plain = styled()
    idle_bank, idle = styled({"lora": str(lora), "weight": 0.0})
    assert (idle_bank, idle.tobytes()) == (plain_bank, plain.tobytes())
    bank, made = styled({"lora": str(lora), "weight": 1.0})
    assert bank != plain_bank
    assert all(not np.array_equal(a, b) for a, b in zip(made, plain, strict=True))
    again, same = styled({"lora": str(lora), "weight": 1.0})
    assert (again, same.tobytes()) == (bank, made.tobytes())


def test_a_file_that_went_away_is_told_as_a_problem_of_the_job(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"gone\.safetensors"):
        Enhancer(config(STYLIZE, adapters=({"lora": str(tmp_path / "gone.safetensors"), "weight": 1.0},)))
