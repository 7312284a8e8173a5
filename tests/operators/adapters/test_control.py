"""ControlNet: what it adds to a call is what diffusers would add, row by row, and nothing elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel

from operators.acceleration.deepcache import CacheSchedule, DeepCache
from operators.adapters.conditions import EDGE_GAIN, softedge, tile
from operators.adapters.control import SourceControl, source_control
from operators.attention.install import install
from operators.errors import ModelError, OperatorError
from operators.models import LatentModel
from operators.pictures import to_pictures
from tests.support.tiny_models import save_tiny_controlnet, save_tiny_sd, save_tiny_sdxl

STEP = 400


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and a ControlNet for it."""
    root = tmp_path_factory.mktemp("control")
    save_tiny_sd(root / "sd")
    unet = LatentModel.from_pretrained(str(root / "sd"), precision="fp32").unet
    return root / "sd", save_tiny_controlnet(root / "tile", unet)


@pytest.fixture(scope="module")
def model(places: tuple[Path, Path]) -> LatentModel:
    return LatentModel.from_pretrained(str(places[0]), precision="fp32")


@pytest.fixture(scope="module")
def steered(model: LatentModel, places: tuple[Path, Path]) -> Iterator[SourceControl]:
    with source_control(model, [adapter(places[1])]) as control:
        yield control


def adapter(folder: Path, condition: str = "tile", weight: float = 0.5) -> dict[str, Any]:
    return {"controlnet": str(folder), "condition": condition, "weight": weight}


def frames(rows: int) -> torch.Tensor:
    coarse = torch.rand(rows, 3, 4, 4, generator=torch.Generator().manual_seed(rows)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear")


def latents(rows: int) -> torch.Tensor:
    return torch.randn(rows, 4, 8, 8, generator=torch.Generator().manual_seed(rows))


@torch.no_grad()
def call(model: LatentModel, z: torch.Tensor, prompt: str = "ink") -> torch.Tensor:
    return model.network(z, STEP, model.condition(prompt))


def test_a_call_about_frames_gets_the_residuals_that_diffusers_would_add(
    model: LatentModel, steered: SourceControl, places: tuple[Path, Path]
) -> None:
    shown, z = frames(2), latents(2)
    plain = call(model, z)
    with steered.by(shown):
        found = call(model, z)
    assert torch.equal(call(model, z), plain)
    network = ControlNetModel.from_pretrained(places[1], low_cpu_mem_usage=False)
    pictures = torch.from_numpy(to_pictures(shown, np.dtype(np.uint8))).permute(0, 3, 1, 2) / 255
    tokens = model.condition("ink").tokens.expand(2, -1, -1)
    with torch.no_grad():
        down, mid = network(z, STEP, tokens, pictures, conditioning_scale=0.5, return_dict=False)
        wanted = model.unet(
            z,
            STEP,
            tokens,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample
    assert torch.allclose(found, wanted, atol=1e-5)
    assert not torch.allclose(found, plain, atol=1e-2)


def test_a_row_is_steered_by_its_own_frame_and_not_by_its_neighbour(
    model: LatentModel, steered: SourceControl
) -> None:
    shown, z = frames(3), latents(3)
    with steered.by(shown):
        together = call(model, z)
    for row in range(3):
        with steered.by(shown[row : row + 1]):
            assert torch.allclose(call(model, z[row : row + 1])[0], together[row], atol=1e-5)
    with steered.by(shown.flip(0)):
        assert not torch.allclose(call(model, z)[0], together[0], atol=1e-3)


def test_a_cached_step_at_the_same_place_says_what_the_whole_steered_network_said(
    model: LatentModel, steered: SourceControl
) -> None:
    z = latents(2)
    with install(model.unet) as session:
        cache = DeepCache(model.unet, session, CacheSchedule(2))
        with cache.pass_over_steps() as calls, steered.by(frames(2)):
            said = []
            for step in range(2):
                with calls.at("rows", step):
                    said.append(call(model, z))
    whole, cached = said
    assert torch.allclose(cached, whole, atol=1e-5)


def test_inside_a_block_about_frames_another_may_be_about_none_and_rows_must_be_as_many_as_frames(
    model: LatentModel, steered: SourceControl
) -> None:
    z, plain = latents(1), call(model, latents(1))
    with steered.by(frames(1)):
        about = call(model, z)
        with steered.by(None):
            assert torch.equal(call(model, z), plain)
        assert torch.equal(call(model, z), about)
        with pytest.raises(OperatorError, match="2 rows about 1 frames"):
            call(model, latents(2))


def test_several_add_up_and_a_weight_of_nothing_adds_nothing(places: tuple[Path, Path]) -> None:
    model = LatentModel.from_pretrained(str(places[0]), precision="fp32")
    z, shown = latents(1), frames(1)
    plain, made = call(model, z), []
    for adapters in (
        [adapter(places[1], weight=0.0)],
        [adapter(places[1], weight=1.0)],
        [adapter(places[1]), adapter(places[1])],
        [adapter(places[1]), adapter(places[1], "softedge")],
    ):
        with source_control(model, adapters) as control, control.by(shown):
            made.append(call(model, z))
    assert torch.equal(made[0], plain)
    assert torch.allclose(made[1], made[2], atol=1e-5)
    assert not torch.allclose(made[2], made[3], atol=1e-3)
    assert torch.equal(call(model, z), plain)


def test_sdxl_is_steered_with_its_pooled_prompt_and_sizes(tmp_path: Path) -> None:
    model = LatentModel.from_pretrained(str(save_tiny_sdxl(tmp_path / "sdxl")), precision="fp32")
    save_tiny_controlnet(tmp_path / "tile", model.unet)
    plain = call(model, latents(1))
    with source_control(model, [adapter(tmp_path / "tile")]) as control, control.by(frames(1)):
        assert not torch.allclose(call(model, latents(1)), plain, atol=1e-3)


def test_a_folder_without_weights_is_told_by_its_name(model: LatentModel, tmp_path: Path) -> None:
    with (
        pytest.raises(ModelError, match="nothing here"),
        source_control(model, [adapter(tmp_path / "nothing here")]),
    ):
        pass


def test_soft_edges_follow_the_slope_of_luma_and_nothing_else_in_the_frame() -> None:
    picture = np.zeros((2, 32, 48, 3), np.uint8)
    picture[:, :, 24:] = 100
    picture[1, 24:, :8] = 255
    edges = softedge(picture)
    assert edges.shape == picture.shape
    assert edges.dtype == np.uint8
    # Half of what a step smoothed by one pixel rises over two, by the normal distribution.
    assert edges[0, 16, 24, 0] / EDGE_GAIN == pytest.approx(100 * (0.9332 - 0.3085) / 2, abs=1.0)
    assert not edges[0, :, :18].any()
    assert np.array_equal(edges[0, :20, 16:], edges[1, :20, 16:])
    assert edges[1, 24, :8].min() == 255
    assert np.array_equal(edges[..., 0], edges[..., 2])
    assert not softedge(np.full((1, 16, 16, 3), 77, np.uint8)).any()
    assert tile(picture) is picture
