"""Names of layers as files of LoRA write them, against what diffusers makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from safetensors.torch import save_file

from operators.adapters import lora, textual_inversion
from pipeline import adapter_fit, lora_names
from tests.operators.adapters.loras import ATTENTION, CONV, OUT, TOWER, all_factors, write_kohya, write_peft
from tests.support.tiny_models import save_tiny_sd, tiny_sd_unet

#: A layer of SDXL in kohya's naming, and in that of diffusers (two layers per block).
OF_SDXL = {
    "input_blocks_1_0_in_layers_2": "down_blocks.0.resnets.0.conv1",
    "input_blocks_3_0_op": "down_blocks.0.downsamplers.0.conv",
    "input_blocks_4_0_skip_connection": "down_blocks.1.resnets.0.conv_shortcut",
    "input_blocks_4_1_transformer_blocks_0_attn1_to_q": (
        "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    ),
    "input_blocks_8_1_proj_in": "down_blocks.2.attentions.1.proj_in",
    "middle_block_0_in_layers_2": "mid_block.resnets.0.conv1",
    "middle_block_1_transformer_blocks_9_ff_net_0_proj": (
        "mid_block.attentions.0.transformer_blocks.9.ff.net.0.proj"
    ),
    "middle_block_2_out_layers_3": "mid_block.resnets.1.conv2",
    "output_blocks_2_1_transformer_blocks_0_attn2_to_out_0": (
        "up_blocks.0.attentions.2.transformer_blocks.0.attn2.to_out.0"
    ),
    "output_blocks_2_2_conv": "up_blocks.0.upsamplers.0.conv",
    "output_blocks_3_1_proj_out": "up_blocks.1.attentions.0.proj_out",
    "output_blocks_8_0_out_layers_3": "up_blocks.2.resnets.2.conv2",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sd(tmp_path_factory.mktemp("sd"))


def weights(unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    named = {name.removesuffix(".weight"): w for name, w in unet.named_parameters()}
    return {name: named[name] for name in (ATTENTION, OUT, CONV)}


def test_both_halves_read_the_same_layouts() -> None:
    assert lora_names.FACTORS == lora.FACTORS
    assert lora_names.PARTS == lora.PARTS
    assert adapter_fit.OF_TWO_TOWERS == textual_inversion.OF_TWO_TOWERS


def test_layers_of_sdxl_get_the_names_that_diffusers_gives_them() -> None:
    state = {}
    for name in OF_SDXL:
        state |= {f"lora_unet_{name}.lora_down.weight": torch.zeros(1, 1)}
        state |= {f"lora_unet_{name}.lora_up.weight": torch.zeros(1, 1)}
    config = tiny_sd_unet().config
    converted, _ = StableDiffusionLoraLoaderMixin.lora_state_dict(state, unet_config=config)
    theirs = {name.partition("lora")[0].replace("processor.", "").strip("._") for name in converted}
    assert len(theirs) == len(OF_SDXL)
    for name, wanted in OF_SDXL.items():
        assert lora_names.diffusers_name(name, 2) == wanted.replace(".", "_")
        short = wanted.removesuffix(".0") if wanted.endswith("to_out.0") else wanted
        assert any(f"unet.{short}" == found for found in theirs), (name, sorted(theirs))


@pytest.mark.parametrize("layout", ["kohya", "peft", "bare", "old"])
def test_every_layout_fits_the_model_that_it_was_made_of_and_no_other(
    model: Path, tmp_path: Path, layout: str
) -> None:
    made, file = all_factors(weights(tiny_sd_unet())), tmp_path / "a.safetensors"
    if layout == "old":
        state = {}
        for name in (ATTENTION, OUT):
            begin, _, end = name.removesuffix(".0").rpartition(".")
            whole = f"unet.{begin}.processor.{end}_lora"
            state |= {f"{whole}.down.weight": made[name][0], f"{whole}.up.weight": made[name][1]}
        save_file(state, file)
    elif layout == "kohya":
        write_kohya(file, made)
    else:
        write_peft(file, made, prefix=layout == "peft")
    assert lora_names.lora_misfit(file, model) == ""
    embedded = Path(lora.__file__).parent.parent / "embedded"
    assert "another kind of model" in lora_names.lora_misfit(file, embedded)


def test_what_is_no_plain_lora_of_this_model_is_told_apart(model: Path, tmp_path: Path) -> None:
    made = all_factors(weights(tiny_sd_unet()))
    down, up = made[ATTENTION]
    whole = f"unet.{ATTENTION}"

    def misfit(state: dict[str, torch.Tensor]) -> str:
        save_file({name: tensor.clone() for name, tensor in state.items()}, tmp_path / "b.safetensors")
        return lora_names.lora_misfit(tmp_path / "b.safetensors", model)

    pair = {f"{whole}.lora_A.weight": down, f"{whole}.lora_B.weight": up}
    assert misfit(pair) == ""
    assert "lora_B.weight; fetch" in misfit({f"{whole}.lora_A.weight": down})
    assert "is no LoRA: it holds mean" in misfit({**pair, "mean": up})
    assert "is a DoRA" in misfit({**pair, f"{whole}.lora_magnitude_vector": up})
    assert "is a LoHa" in misfit({"lora_unet_x.hada_w1_a": up})
    assert "scale in a file beside it" in misfit({f"base_model.model.{n}": t for n, t in pair.items()})
    assert "factors of shapes" in misfit({**pair, f"{whole}.lora_A.weight": down[:, 1:]})
    assert "no text_encoder_2/" in misfit(
        {
            f"text_encoder_2.{TOWER}.lora_A.weight": torch.zeros(2, 32),
            f"text_encoder_2.{TOWER}.lora_B.weight": torch.zeros(37, 2),
        }
    )
    assert (
        misfit(
            {
                f"lora_te_{TOWER.replace('.', '_')}.lora_down.weight": torch.zeros(2, 32),
                f"lora_te_{TOWER.replace('.', '_')}.lora_up.weight": torch.zeros(37, 2),
            }
        )
        == ""
    )
