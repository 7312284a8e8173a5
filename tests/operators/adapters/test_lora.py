"""LoRA merged into a checkpoint: every layout says the same change, and no layer is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from operators.adapters.loading import adapt
from operators.errors import ModelError
from operators.models import LatentModel
from tests.operators.adapters.loras import (
    ALPHAS,
    ATTENTION,
    CONV,
    OUT,
    RANKS,
    TOWER,
    all_factors,
    factors,
    product,
    write_kohya,
    write_peft,
)
from tests.support.tiny_models import save_tiny_sd, save_tiny_sd3

pytest.importorskip("peft", reason="LoRA is read by peft: pip install 'reelweave[lora]'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sd(tmp_path_factory.mktemp("sd"))


def load(folder: Path) -> LatentModel:
    return LatentModel.from_pretrained(str(folder), precision="fp32")


def weights(model: LatentModel) -> dict[str, torch.Tensor]:
    """All weights of network and tower, by name; the tower's as older libraries named them."""
    (_, tower), *_ = model.text.towers
    named = {f"text_model.{name.removeprefix('text_model.')}": w for name, w in tower.named_parameters()}
    return {
        name.removesuffix(".weight"): w.detach().clone()
        for name, w in {**dict(model.unet.named_parameters()), **named}.items()
    }


LAYERS = (ATTENTION, OUT, CONV, TOWER)


@pytest.mark.parametrize("layout", ["kohya", "peft", "peft with alphas in the header"])
def test_every_layer_changes_by_weight_alpha_over_rank_times_the_factors_and_no_other_does(
    folder: Path, tmp_path: Path, layout: str
) -> None:
    model = load(folder)
    before = weights(model)
    made = all_factors({name: before[name] for name in LAYERS})
    file, scale = tmp_path / "style.safetensors", {name: ALPHAS[name] / RANKS[name] for name in LAYERS}
    if layout == "kohya":
        write_kohya(file, made)
    else:
        write_peft(file, made, noted="header" in layout)
        scale = scale if "header" in layout else dict.fromkeys(LAYERS, 1.0)
    adapt(model, [{"lora": str(file), "weight": -0.5}])
    after = weights(model)
    assert before.keys() == after.keys()
    for name, weight in before.items():
        if name in made:
            wanted = weight - 0.5 * scale[name] * product(*made[name])
            assert torch.allclose(after[name], wanted, atol=1e-5), name
            assert not torch.allclose(after[name], weight, atol=1e-3), name
        else:
            assert torch.equal(after[name], weight), name


def test_files_of_a_network_alone_need_no_prefix_and_several_add_up(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    before = weights(model)
    made = all_factors({name: before[name] for name in (ATTENTION, CONV)})
    first = write_peft(tmp_path / "a.safetensors", {ATTENTION: made[ATTENTION]}, prefix=False)
    both = write_kohya(tmp_path / "b.safetensors", made)
    adapt(model, [{"lora": str(first), "weight": 1.0}, {"lora": str(both), "weight": 2.0}])
    after = weights(model)
    query = product(*made[ATTENTION])
    assert torch.allclose(after[ATTENTION], before[ATTENTION] + query + 2 * 0.5 * query, atol=1e-5)
    assert torch.allclose(after[CONV], before[CONV] + 2 * 0.5 * product(*made[CONV]), atol=1e-5)


def test_a_weight_of_nothing_changes_nothing_and_the_network_stays_a_plain_one(
    folder: Path, tmp_path: Path
) -> None:
    model = load(folder)
    before, kinds = weights(model), [type(module) for module in model.unet.modules()]
    made = all_factors({name: before[name] for name in LAYERS})
    adapt(model, [{"lora": str(write_kohya(tmp_path / "a.safetensors", made)), "weight": 0.0}])
    assert all(torch.equal(w, before[name]) for name, w in weights(model).items())
    assert [type(module) for module in model.unet.modules()] == kinds
    assert not any(p.requires_grad for p in model.unet.parameters())
    assert not any(p.requires_grad for p in model.text.towers[0][1].parameters())


def test_the_embedded_model_takes_one_in_half_precision_too(tmp_path: Path) -> None:
    model = LatentModel.from_pretrained("embedded", precision="bf16")
    name = next(n for n, m in model.unet.named_modules() if n.endswith("to_q"))
    before = dict(model.unet.named_parameters())[f"{name}.weight"].detach().clone()
    down, up = (0.3 * factor for factor in factors(before.float(), 2, 0))
    save_file({f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}, tmp_path / "a.safetensors")
    adapt(model, [{"lora": str(tmp_path / "a.safetensors"), "weight": 1.0}])
    after = dict(model.unet.named_parameters())[f"{name}.weight"]
    assert after.dtype == torch.bfloat16
    assert torch.allclose(after.float(), before.float() + product(down, up), atol=0.02)
    assert not torch.allclose(after.float(), before.float(), atol=0.1)


def test_layers_that_the_network_does_not_have_and_broken_files_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    model = load(folder)
    before = weights(model)
    made = all_factors({ATTENTION: before[ATTENTION]})
    state = load_file(write_peft(tmp_path / "a.safetensors", made))
    elsewhere = {
        name.replace("down_blocks.1", "down_blocks.7"): factor.clone() for name, factor in state.items()
    }
    save_file({**state, **elsewhere}, tmp_path / "b.safetensors")
    (tmp_path / "c.safetensors").write_bytes(b"no weights")
    for name in ("b.safetensors", "c.safetensors", "none.safetensors"):
        with pytest.raises(ModelError, match=name):
            adapt(load(folder), [{"lora": str(tmp_path / name), "weight": 1.0}])


def test_a_transformer_takes_no_adapters(tmp_path: Path) -> None:
    model = load(save_tiny_sd3(tmp_path, t5=False))
    with pytest.raises(ModelError, match="models with a UNet"):
        adapt(model, [{"lora": "a.safetensors", "weight": 1.0}])
