"""Adapters that cannot be used are refused by `reelweave plan`, before any work, with what would work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from safetensors.torch import save_file
from typer.testing import CliRunner

from jobs.cli import app
from jobs.spec import load_spec
from pipeline import adapter_files
from pipeline.job_keys import JobKeys
from pipeline.model_files import weights_digest
from tests.jobs.media import write_clip
from tests.support.tiny_models import save_tiny_controlnet, save_tiny_sd, save_tiny_sd3, tiny_sd_unet

pytest.importorskip("peft", reason="LoRA is read by peft: pip install 'reelweave[lora]'")

PROMPTED = {"stylize": {"method": {"name": "prompt"}, "prompt": "in <mine>"}}
QUERY = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip, models, and adapters of which some fit."""
    root = tmp_path_factory.mktemp("adapters")
    write_clip(root / "in" / "a.mp4", width=64, height=48)
    save_tiny_sd(root / "sd")
    save_tiny_sd3(root / "sd3")
    save_tiny_controlnet(root / "tile", tiny_sd_unet())
    write_lora(root / "lora.safetensors", 32)
    write_lora(root / "wide.safetensors", 320)
    save_file({"a": torch.zeros(3, 32)}, root / "word.safetensors")
    save_file({"a": torch.zeros(60, 32)}, root / "long.safetensors")
    save_file({"a": torch.zeros(3, 768)}, root / "broad.safetensors")
    (root / "torn.safetensors").write_bytes((root / "lora.safetensors").read_bytes()[:200])
    (root / "pickle.bin").write_bytes(b"pickle")
    return root


def write_lora(file: Path, width: int, value: float = 0.0) -> None:
    pair = {"lora_A.weight": torch.full((2, width), value), "lora_B.weight": torch.ones(width, 2)}
    save_file({f"{QUERY}.{end}": factor for end, factor in pair.items()}, file)


def write_job(place: Path, *adapters: dict[str, Any], model: str = "sd", item: Any = PROMPTED) -> Path:
    files = ("lora", "textual_inversion", "controlnet")
    placed = [{n: str(place / v) if n in files else v for n, v in adapter.items()} for adapter in adapters]
    job = {
        "name": "adapted",
        "source": str(place / "in" / "a.mp4"),
        "output": str(place / "out"),
        "model": model if model == "embedded" else str(place / model),
        "adapters": placed,
        "enhance": [item],
        "consistency": {"sharing": "none"},
    }
    path = place / "job.yaml"
    path.write_text(json.dumps(job))
    return path


def plan(path: Path) -> Result:
    found = CliRunner().invoke(app, ["plan", str(path), "--json"])
    assert "Traceback" not in found.stderr
    return found


LORA = {"lora": "lora.safetensors"}
WORD = {"textual_inversion": "word.safetensors", "token": "<mine>"}
DENOISE = {"restore": {"degradation": {"kind": "denoise", "noise": 0.1}}}


@pytest.mark.parametrize(
    ("adapters", "field", "words"),
    [
        ([{"lora": "none.safetensors"}], "adapters.0.lora", "there is no file"),
        ([LORA, {"lora": "pickle.bin"}], "adapters.1.lora", "pickle files are never loaded"),
        ([{"lora": "torn.safetensors"}], "adapters.0.lora", "no safetensors file"),
        ([{"lora": "wide.safetensors"}], "adapters.0.lora", "made for another kind of model"),
        ([{"lora": "word.safetensors"}], "adapters.0.lora", "is no LoRA"),
        ([{**LORA, "weight": 9.0}], "adapters.0.weight", "must be at most 4"),
        ([{"weight": 1.0}], "adapters.0", "the key lora"),
        ([{**LORA, "wieght": 1.0}], "adapters.0.wieght", "unknown key"),
        ([{**LORA, "token": "<a>"}], "adapters.0.token", "unknown key"),
        ([{**WORD, "token": "mine"}], "adapters.0.token", "between angle brackets"),
        ([{**WORD, "token": "<other>"}], "adapters.0.token", "no prompt says <other>"),
        ([WORD, WORD], "adapters.1.token", "knows already"),
        ([{**WORD, "textual_inversion": "broad.safetensors"}], "adapters.0.textual_inversion", "32 numbers"),
        ([{**WORD, "textual_inversion": "lora.safetensors"}], "adapters.0.textual_inversion", "one tensor"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_with_its_field(
    place: Path, adapters: list[dict[str, Any]], field: str, words: str
) -> None:
    found = plan(write_job(place, *adapters))
    assert found.exit_code == 2, found.stderr
    assert f"{field}:" in found.stderr
    assert words in " ".join(found.stderr.split())


def test_without_peft_a_lora_is_refused_with_what_to_install(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter_files, "find_spec", lambda name: None)
    found = plan(write_job(place, LORA))
    assert found.exit_code == 2
    assert "pip install 'reelweave[lora]'" in " ".join(found.stderr.split())


def test_words_count_as_many_tokens_as_they_have_vectors(place: Path) -> None:
    said_twice = {"stylize": {**PROMPTED["stylize"], "prompt": "<mine> in <mine>"}}
    long = {**WORD, "textual_inversion": "long.safetensors"}
    assert plan(write_job(place, WORD, item=said_twice)).exit_code == 0
    assert plan(write_job(place, long)).exit_code == 0
    found = plan(write_job(place, long, item=said_twice))
    assert found.exit_code == 2
    assert "enhance.0.stylize.prompt: it has 124 tokens" in found.stderr


def test_models_without_text_or_without_a_unet_refuse_what_they_cannot_take(place: Path) -> None:
    found = plan(write_job(place, WORD, model="embedded", item=DENOISE))
    assert found.exit_code == 2
    assert "this one has no text_encoder/" in " ".join(found.stderr.split())
    found = plan(write_job(place, LORA, model="sd3", item=DENOISE))
    assert found.exit_code == 2
    assert "has no unet/" in " ".join(found.stderr.split())


def test_keys_change_with_every_member_of_an_adapter_and_with_the_bytes_of_its_file_alone(
    place: Path, tmp_path: Path
) -> None:
    def key(*adapters: dict[str, Any]) -> str:
        settings = load_spec(write_job(place, *adapters)).to_settings()
        return JobKeys(settings, weights_digest(settings), "cpu").spec_digest()

    write_lora(place / "same.safetensors", 32)
    write_lora(place / "other.safetensors", 32, 1.0)
    same, other = {"lora": "same.safetensors"}, {"lora": "other.safetensors"}
    assert key(LORA) == key(same)
    keys = [key(), key(LORA), key(other), key({**LORA, "weight": 0.5}), key(LORA, other), key(other, LORA)]
    keys += [key(WORD), key({**WORD, "token": "<yours>"})]
    tile, other = {"controlnet": "tile", "condition": "tile"}, write_controlnet(place, "other", seed=1)
    keys += [key(tile), key({**tile, "condition": "softedge"}), key({**tile, "weight": 1.0}), key(other)]
    assert len(set(keys)) == len(keys)


def write_controlnet(place: Path, name: str, **changes: Any) -> dict[str, Any]:
    """The ControlNet of the place with another configuration."""
    folder = place / name
    folder.mkdir(exist_ok=True)
    for file in (place / "tile").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, **changes}))
    return {"controlnet": name, "condition": "tile"}


def test_a_controlnet_is_refused_where_it_does_not_fit_and_names_what_differs(place: Path) -> None:
    by_word = {"stylize": {**PROMPTED["stylize"], "prompt": "in"}}
    tile = {"controlnet": "tile", "condition": "tile"}
    assert plan(write_job(place, tile, item=by_word)).exit_code == 0
    (place / "empty").mkdir(exist_ok=True)
    unet = {"controlnet": "sd/unet", "condition": "softedge"}
    wide = write_controlnet(place, "wide", cross_attention_dim=768)
    coarse = write_controlnet(place, "coarse", conditioning_embedding_out_channels=[8, 8, 16, 16, 16])
    union = write_controlnet(place, "union", _class_name="ControlNetUnionModel")
    for adapter, item, words in (
        ({**tile, "controlnet": "empty"}, by_word, "holds no config.json with safetensors weights"),
        (unet, by_word, "holds a UNet2DConditionModel"),
        (wide, by_word, "cross_attention_dim is 768, and that of this one is 32"),
        (coarse, by_word, "a cell of 16 pixels along a side, and this model of 8"),
        (union, by_word, "only ControlNetModel is loaded"),
        (tile, DENOISE, "enhance has none"),
        ({**tile, "condition": "canny"}, by_word, "expected 'tile' or 'softedge'"),
        ({"controlnet": "tile"}, by_word, "condition: is required"),
        ({**tile, "weight": 3.0}, by_word, "must be at most 2"),
    ):
        found = plan(write_job(place, adapter, item=item))
        assert found.exit_code == 2, words
        assert "adapters.0" in found.stderr
        assert words in " ".join(found.stderr.split()), found.stderr
