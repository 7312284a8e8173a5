"""IP-Adapter: what a call is told is what diffusers tells it, and nobody else is told anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from operators.adapters import image_prompt
from operators.adapters.image_prompt import ImagePrompt, load_image_prompt
from operators.attention.install import install
from operators.attention.session import SharedAttention
from operators.clip_pixels import clip_pixels
from operators.errors import ModelError
from operators.inversion.uniform_attention import UniformMaps
from operators.models import BoundPrior, LatentModel
from operators.style.image_prompted import ImagePrompted, ImageTokens
from pipeline import image_prompt_fit
from tests.support.tiny_models import save_tiny_image_prompt, save_tiny_sd, save_tiny_sdxl, tiny_sdxl_unet

STEP = 401


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and an adapter for it."""
    root = tmp_path_factory.mktemp("prompted")
    save_tiny_sd(root / "sd")
    unet = LatentModel.from_pretrained(str(root / "sd"), precision="fp32").unet
    return root / "sd", save_tiny_image_prompt(root / "ip", unet)


@pytest.fixture(scope="module")
def model(places: tuple[Path, Path]) -> LatentModel:
    return LatentModel.from_pretrained(str(places[0]), precision="fp32")


@pytest.fixture
def session(model: LatentModel) -> Iterator[SharedAttention]:
    with install(model.unet) as session:
        yield session


def adapter(folder: Path, scale: float = 0.6, layers: str = "all") -> dict[str, Any]:
    return {"ip_adapter": str(folder), "scale": scale, "layers": layers}


def loaded(model: LatentModel, folder: Path, **how: Any) -> ImagePrompt:
    found = load_image_prompt(model, [adapter(folder, **how)])
    assert found is not None
    return found


def picture(seed: int, height: int = 40, width: int = 32) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def latents(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def published(places: tuple[Path, Path], scale: Any) -> UNet2DConditionModel:
    """The same network with the adapter loaded by diffusers for good."""
    unet = LatentModel.from_pretrained(str(places[0]), precision="fp32").unet
    held = load_file(places[1] / "ip_adapter.safetensors")
    state = {
        part: {n.removeprefix(f"{part}."): v for n, v in held.items() if n.startswith(part)}
        for part in ("image_proj", "ip_adapter")
    }
    unet._load_ip_adapter_weights([state], low_cpu_mem_usage=False)
    # Of the whole pipeline setting scales takes the network alone.
    holder: Any = type("Holder", (), {"unet": unet})()
    StableDiffusionPipeline.set_ip_adapter_scale(holder, scale)
    return unet


@torch.no_grad()
@pytest.mark.parametrize(("layers", "scale"), [("all", 0.6), ("style", {"up": {"block_1": [0.6, 0.6, 0.6]}})])
def test_both_branches_are_told_what_diffusers_tells_them(
    places: tuple[Path, Path], model: LatentModel, session: SharedAttention, layers: str, scale: Any
) -> None:
    prompt = loaded(model, places[1], layers=layers)
    tokens, z = prompt.tokens([picture(1)], [1.0]), latents(2)
    prior = ImagePrompted(BoundPrior(model, "ink", 3.0, session), prompt, ImageTokens(tokens, session))
    found = prior.predict(z, STEP).eps
    unet = published(places, scale)
    encoder = CLIPVisionModelWithProjection.from_pretrained(places[1] / "image_encoder")
    embedding = encoder(pixel_values=clip_pixels(picture(1), 32)).image_embeds
    parts = [
        unet(
            z,
            STEP,
            encoder_hidden_states=model.condition(text).tokens.expand(2, -1, -1),
            added_cond_kwargs={"image_embeds": [shown.expand(2, -1)[:, None]]},
        ).sample
        for text, shown in (("", torch.zeros_like(embedding)), ("ink", embedding))
    ]
    torch.testing.assert_close(found, parts[0] + 3.0 * (parts[1] - parts[0]), atol=2e-4, rtol=2e-4)
    plain = BoundPrior(model, "ink", 3.0, session).predict(z, STEP).eps
    assert (found - plain).abs().max() > 1e-3


@torch.no_grad()
def test_nobody_else_is_told_and_the_network_is_as_it_was(
    places: tuple[Path, Path], model: LatentModel, session: SharedAttention
) -> None:
    untold, z, before = BoundPrior(model, "", 1.0, session), latents(1), dict(model.unet.attn_processors)
    plain = untold.predict(z, STEP).eps
    uniform = UniformMaps(untold, model.unet).predict(z, STEP).eps
    prompt = loaded(model, places[1])
    told = ImagePrompted(untold, prompt, ImageTokens(prompt.tokens([picture(1)], [1.0]), session))
    assert not torch.equal(told.predict(z, STEP).eps, plain)
    assert dict(model.unet.attn_processors) == before
    assert model.unet.encoder_hid_proj is None
    assert torch.equal(untold.predict(z, STEP).eps, plain)
    assert torch.equal(UniformMaps(untold, model.unet).predict(z, STEP).eps, uniform)


@torch.no_grad()
def test_rows_are_told_alike_whatever_is_beside_them_aggregated_or_not(
    places: tuple[Path, Path], model: LatentModel, session: SharedAttention
) -> None:
    prompt = loaded(model, places[1])
    image = ImageTokens(prompt.tokens([picture(1)], [1.0]), session)
    outs = []
    for aggregated in (False, True):
        prior = ImagePrompted(BoundPrior(model, "ink", 3.0, session), prompt, image, aggregated=aggregated)
        one, other = prior.predict(latents(2), STEP).eps, prior.predict(latents(2).flip(0), STEP).eps
        assert torch.equal(one, other.flip(0))
        outs.append(one)
    assert (outs[0] - outs[1]).abs().max() > 1e-3


@torch.no_grad()
def test_tokens_of_several_pictures_are_their_mean_and_those_of_none_a_zero_embeddings(
    places: tuple[Path, Path], model: LatentModel
) -> None:
    prompt = loaded(model, places[1])
    a, b = (prompt.tokens([picture(seed)], [1.0]) for seed in (1, 2))
    both = prompt.tokens([picture(1), picture(2, 32, 64)[..., 16:48]], [0.75, 0.25])
    assert a.shape == (2, 4, 32)
    c = prompt.tokens([picture(2, 32, 64)[..., 16:48]], [1.0])
    torch.testing.assert_close(both[1], 0.75 * a[1] + 0.25 * c[1])
    assert torch.equal(a[0], b[0])
    assert not torch.equal(a[1], b[1])
    # CLIP sees the centre square.
    torch.testing.assert_close(prompt.tokens([picture(2, 32, 64)], [1.0]), c)


def test_pictures_are_prepared_as_clips_own_processor_does() -> None:
    pixels = (np.random.default_rng(0).random((64, 96, 3)) * 255).astype(np.uint8)
    own = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)(Image.fromarray(pixels))
    wanted = torch.as_tensor(np.asarray(own["pixel_values"][0]))
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    # Theirs rounds to 8 bits between, along both sides: three levels.
    torch.testing.assert_close(clip_pixels(x, 32)[0], wanted, atol=3 / 255 / 0.26, rtol=0)


def test_style_layers_of_sdxl_are_one_transformer(tmp_path: Path) -> None:
    save_tiny_sdxl(tmp_path / "sdxl")
    model = LatentModel.from_pretrained(str(tmp_path / "sdxl"), precision="fp32")
    folder = save_tiny_image_prompt(tmp_path / "ip", model.unet)
    names = {module: name for name, module in model.unet.named_modules()}
    told = {names[attention] for attention in loaded(model, folder, layers="style").layers}
    assert told == {f"up_blocks.0.attentions.1.transformer_blocks.{n}.attn2" for n in range(2)}
    assert len(loaded(model, folder).layers) == len(
        [name for name in tiny_sdxl_unet().attn_processors if name.endswith("attn2.processor")]
    )
    assert image_prompt_fit.image_prompt_misfit(folder, tmp_path / "sdxl", "style") == ""


def test_both_halves_know_the_same_files_and_layers() -> None:
    for name in ("WEIGHTS", "ENCODER", "STYLE_LAYERS"):
        assert getattr(image_prompt_fit, name) == getattr(image_prompt, name)


def test_an_adapter_of_another_model_names_its_file(
    places: tuple[Path, Path], model: LatentModel, tmp_path: Path
) -> None:
    before = dict(model.unet.attn_processors)
    other = save_tiny_image_prompt(tmp_path / "ip", tiny_sdxl_unet())
    with pytest.raises(ModelError, match=r"ip_adapter\.safetensors cannot be loaded"):
        load_image_prompt(model, [adapter(other)])
    assert dict(model.unet.attn_processors) == before
    assert load_image_prompt(model, []) is None
