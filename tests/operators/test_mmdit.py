"""SD3's networks, on a tiny random checkpoint of the real classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from operators.attention.install import session_of
from operators.degradations.super_resolution import AreaDownsampling
from operators.errors import ModelError
from operators.models import BoundPrior, LatentModel
from operators.noise import FrameDraws, keyed_normal
from operators.solvers.base import restore
from operators.solvers.registry import build_solver
from tests.support.tiny_models import save_tiny_sd3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sd3(tmp_path_factory.mktemp("sd3"))


@pytest.fixture(scope="module")
def model(folder: Path) -> LatentModel:
    return LatentModel.from_pretrained(str(folder))


def test_it_is_a_flow_with_sixteen_channels_and_a_largest_size(model: LatentModel) -> None:
    assert model.kind == "flow"
    assert (model.latent_channels, model.vae_factor, model.pixel_multiple) == (16, 8, 16)
    assert model.largest_side == 8 * 2 * 8


def test_a_prompt_is_what_both_clip_towers_and_t5_make_of_it(model: LatentModel) -> None:
    ink, empty = model.condition("ink"), model.condition("")
    assert ink.tokens.shape == (1, 77 + 256, 72)
    assert ink.pooled is not None
    assert ink.pooled.shape == (1, 64)
    assert float(ink.tokens[:, :77, 64:].abs().max()) == 0.0
    for part in (slice(0, 77), slice(77, None)):
        assert not torch.equal(ink.tokens[:, part], empty.tokens[:, part])


def test_without_t5_its_tokens_are_zero(tmp_path: Path) -> None:
    told = LatentModel.from_pretrained(str(save_tiny_sd3(tmp_path, t5=False))).condition("ink")
    assert float(told.tokens[:, 77:].abs().max()) == 0.0
    assert float(told.tokens[:, :77].abs().max()) > 0.0


def test_its_network_is_told_the_flow_time_and_predicts_the_flow(model: LatentModel) -> None:
    z = keyed_normal((2, 16, 8, 8), "z")
    condition = model.condition("ink")
    with torch.no_grad():
        found = BoundPrior(model, "ink").predict(z, 250)
        flow = model.unet(
            z,
            encoder_hidden_states=condition.tokens.expand(2, -1, -1),
            pooled_projections=condition.pooled.expand(2, -1),
            timestep=torch.tensor([250, 250]),
        ).sample
    torch.testing.assert_close(found.z0, z - 0.25 * flow)
    torch.testing.assert_close(found.eps, z + 0.75 * flow)


@pytest.mark.parametrize("name", ["flowchef", "flowdps", "dps_nojac"])
def test_flow_solvers_restore_with_it(name: str, model: LatentModel) -> None:
    prior = BoundPrior(model, "ink", 2.0)
    operator = AreaDownsampling(64, 64, 2)
    y = operator.apply(0.5 * torch.sin(torch.arange(64.0) / 6).expand(1, 3, 64, 64))
    solver = build_solver({"name": name, "steps": 3, "last_fit": True}, operator, 0.0, prior)
    draws = FrameDraws(seed=3, source_digest="clip", scene=0, frames=(0,), rho=0.8, prefix="test")
    restored = restore(solver, y, keyed_normal((1, 16, 8, 8), "n"), prior, draws)
    assert restored.shape == (1, 3, 64, 64)
    # Random weights restore nothing, and the last fit holds the measurement all the same.
    assert float((operator.apply(restored) - y).abs().mean()) < 0.05


def test_its_session_shares_nothing(model: LatentModel) -> None:
    with session_of(model.unet, decoder_only=True) as session:
        prior = BoundPrior(model, "ink", 2.0, session)
        z = keyed_normal((1, 16, 4, 4), "z")
        harvest = session.harvest(lambda: prior.predict(z, 250))
        assert harvest.layers == {}
        assert session.branch == "uncond"


def test_another_transformer_is_refused_by_its_class(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    facts = {"_class_name": "FluxTransformer2DModel"}
    (tmp_path / "transformer" / "config.json").write_text(json.dumps(facts))
    (tmp_path / "vae").symlink_to(folder / "vae")
    with pytest.raises(ModelError, match="holds a FluxTransformer2DModel; of transformers only SD3"):
        LatentModel.from_pretrained(str(tmp_path))
