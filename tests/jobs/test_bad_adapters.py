"""Adapters that cannot be used are refused by `reelweave plan`, before any work, with what would work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from jobs.cli import app
from jobs.spec import load_spec
from pipeline import adapter_files
from pipeline.job_keys import JobKeys
from pipeline.model_files import weights_digest
from tests.jobs.media import write_clip
from tests.support.tiny_models import (
    save_tiny_controlnet,
    save_tiny_image_prompt,
    save_tiny_sd,
    save_tiny_sd3,
    save_tiny_sdxl,
    tiny_sd_unet,
    tiny_sdxl_unet,
)

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
    save_tiny_image_prompt(root / "ip", tiny_sd_unet())
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(root / "ink.png")
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
    files = ("lora", "textual_inversion", "controlnet", "ip_adapter")
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
IP = {"ip_adapter": "ip"}
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
    keys += [key(IP), key({**IP, "scale": 1.0}), key({**IP, "layers": "style"})]
    keys += [key(write_image_prompt(place, "ip_other", seed=1))]
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


def by_picture(place: Path, **told: Any) -> dict[str, Any]:
    return {"stylize": {"reference": str(place / "ink.png"), **told}}


def write_image_prompt(place: Path, name: str, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """An adapter of its own, with tensors replaced, or left out where they are None."""
    file = save_tiny_image_prompt(place / name, tiny_sd_unet(), seed) / "ip_adapter.safetensors"
    held = {**load_file(file), **{key.replace("__", "."): tensor for key, tensor in changes.items()}}
    save_file({key: tensor for key, tensor in held.items() if tensor is not None}, file)
    return {"ip_adapter": name}


def test_an_image_prompt_is_refused_where_it_does_not_fit_and_says_what_would(place: Path) -> None:
    picture = by_picture(place)
    for item in (picture, by_picture(place, method={"name": "rival"}, prompt="in", guidance=3.0)):
        found = plan(write_job(place, {**IP, "layers": "style"}, item=item))
        assert found.exit_code == 0, found.stderr
    (place / "no_encoder").mkdir(exist_ok=True)
    (place / "no_encoder" / "ip_adapter.safetensors").write_bytes(b"")
    save_tiny_image_prompt(place / "ip_xl", tiny_sdxl_unet())
    broken = write_image_prompt(place, "ip_torn")
    (place / "ip_torn" / "ip_adapter.safetensors").write_bytes(b"torn")
    face = write_image_prompt(place, "ip_face", image_proj__proj__weight=None)
    other = write_image_prompt(place, "ip_bigG", image_proj__proj__weight=torch.zeros(128, 20))
    flat = write_image_prompt(place, "ip_flat", ip_adapter__1__to_k_ip__weight=torch.zeros(64, 32))
    cut = write_image_prompt(place, "ip_cut", ip_adapter__1__to_k_ip__weight=None)
    for adapter, item, words in (
        ({"ip_adapter": "nowhere"}, picture, "holds no ip_adapter.safetensors beside image_encoder/"),
        ({"ip_adapter": "no_encoder"}, picture, "holds no ip_adapter.safetensors beside image_encoder/"),
        ({"ip_adapter": "ip_xl"}, picture, "4 tokens of 64 numbers, and this model reads 32"),
        (broken, picture, "no safetensors file"),
        (face, picture, "is no plain IP-Adapter"),
        (other, picture, "reads embeddings of 20 numbers, and image_encoder/ makes 12"),
        (flat, picture, "to_k_ip.weight of shape [64, 32], and the layer is [32, 32] here"),
        (cut, picture, "was made for another kind of model"),
        (IP, {"stylize": {**PROMPTED["stylize"], "prompt": "in"}}, "no stylization with a reference"),
        (IP, DENOISE, "no stylization with a reference"),
        ({**IP, "scale": 3.0}, picture, "must be at most 2"),
        ({**IP, "layers": "layout"}, picture, "expected 'all' or 'style'"),
    ):
        found = plan(write_job(place, adapter, item=item))
        assert found.exit_code == 2, words
        assert "adapters.0" in found.stderr
        assert words in " ".join(found.stderr.split()), found.stderr


def test_image_prompts_are_refused_beside_what_takes_their_place(place: Path) -> None:
    soc = {"method": {"name": "soc", "aggregation": True}}
    blend = {"prompt": "in", "blend": [{"prompt": "ink", "weight": 0.5}]}
    for adapters, item, model, words in (
        ([IP, IP], by_picture(place), "sd", "adapters.1.ip_adapter: it is the second one"),
        ([], by_picture(place, **soc), "sd", "enhance.0.stylize.method.aggregation: it averages"),
        ([IP], by_picture(place, **blend), "sd", "enhance.0.stylize.blend: prompts are blended"),
        ([IP], by_picture(place), "embedded", "it has no text_encoder/"),
        ([IP], DENOISE, "sd3", "adapters.0.ip_adapter: it shows the model a style's picture"),
        ([IP], by_picture(place), "sd3", "use a model with a UNet"),
    ):
        path = write_job(place, *adapters, item=item, model=model)
        found = plan(path)
        assert found.exit_code == 2, words
        assert words in " ".join(found.stderr.split()), found.stderr


def test_an_image_prompt_for_sdxl_fits_its_layers(place: Path) -> None:
    save_tiny_sdxl(place / "sdxl")
    save_tiny_image_prompt(place / "ip_sdxl", tiny_sdxl_unet())
    adapter = {"ip_adapter": "ip_sdxl", "layers": "style"}
    found = plan(write_job(place, adapter, model="sdxl", item=by_picture(place)))
    assert found.exit_code == 0, found.stderr
