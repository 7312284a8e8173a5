"""The video prior of LVTINO, on a tiny random model of the real classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from operators.closed_form.mixture import ChainDraws
from operators.degradations.super_resolution import AreaDownsampling
from operators.errors import ModelError, OperatorError
from operators.models import BoundPrior, LatentModel
from operators.solvers.base import restore
from operators.solvers.levels import level
from operators.solvers.registry import build_solver
from operators.solvers.wan_video import WanVideoPrior, _narrowed
from tests.support.tiny_models import save_tiny_few_step, save_tiny_wan


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_wan(tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def few_step(tmp_path_factory: pytest.TempPathFactory) -> BoundPrior:
    return BoundPrior(LatentModel.from_pretrained(str(save_tiny_few_step(tmp_path_factory.mktemp("lcm")))))


def test_a_clip_is_one_latent_of_a_quarter_of_its_frames(folder: Path) -> None:
    video = WanVideoPrior.read(folder)
    clip = torch.rand(5, 3, 16, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    z = video.encode(clip)
    assert z.shape == (16, 2, 2, 4)
    assert video.decode(z).shape == clip.shape
    assert (video.frames_multiple, video.multiple) == (4, 16)


def test_the_clean_latent_is_read_off_the_flow(folder: Path) -> None:
    video = WanVideoPrior.read(folder)
    z = torch.randn(16, 2, 2, 4, generator=torch.Generator().manual_seed(1))
    at = level(video, 375)
    assert float(at.noise) == pytest.approx(0.375)
    v = video._network(z[None], torch.tensor([375]), video._condition).sample[0]
    torch.testing.assert_close(video.predict_z0(z, 375), z - at.noise.float() * v)
    assert torch.equal(video.predict_z0(z, 0), z)


def test_in_half_precision_the_layers_that_must_not_be_narrowed_stay_wide(folder: Path) -> None:
    wide, narrow = WanVideoPrior.read(folder), WanVideoPrior.read(folder)
    network = _narrowed(narrow._network, torch.bfloat16)
    narrow = WanVideoPrior(narrow._vae, network, narrow._condition)
    assert network.scale_shift_table.dtype == torch.float32
    assert network.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16
    z = torch.randn(16, 2, 2, 4, generator=torch.Generator().manual_seed(1))
    found = narrow.predict_z0(z, 375)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wide.predict_z0(z, 375), rtol=0.05, atol=0.05)


def test_lvtino_restores_a_clip_of_any_length_with_it(folder: Path, few_step: BoundPrior) -> None:
    operator = AreaDownsampling(64, 64, 2)
    y = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    spec = {"name": "lvtino", "checkpoint": str(folder)}
    solver = build_solver(spec, operator, 0.1, few_step)
    noise = torch.zeros(3, 4, 8, 8)
    found, alone = (
        restore(solver, y, noise, few_step, ChainDraws(0))
        for solver in (solver, build_solver({"name": "lvtino"}, operator, 0.1, few_step))
    )
    assert found.shape == (3, 3, 64, 64)
    assert not torch.equal(found, alone)
    assert float((operator.apply(found) - y).abs().mean()) < 0.2


def test_sides_that_the_video_model_does_not_take_are_refused(folder: Path, few_step: BoundPrior) -> None:
    spec = {"name": "lvtino", "checkpoint": str(folder)}
    with pytest.raises(OperatorError, match=r"multiples of 16.*leave checkpoint out"):
        build_solver(spec, AreaDownsampling(72, 64, 2), 0.1, few_step)


@pytest.mark.parametrize(
    ("missing", "words"),
    [("condition.safetensors", "cannot be read"), ("vae/config.json", "cannot be loaded")],
)
def test_a_checkpoint_without_one_of_its_parts_is_refused_by_name(
    missing: str, words: str, tmp_path: Path
) -> None:
    folder = save_tiny_wan(tmp_path)
    manifest = (folder / "checkpoint.json").read_text().replace(', "condition.safetensors"', "")
    (folder / "checkpoint.json").write_text(manifest)
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=words):
        WanVideoPrior.read(folder)
