"""LatentModel: the layouts it loads, its parametrisations, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from operators.errors import ModelError
from operators.models import BoundPrior, LatentModel
from operators.noise_schedule import NoiseSchedule
from tests.support.tiny_models import save_tiny_sd, save_tiny_sdxl

LAYOUTS = {
    "sd15": lambda folder: save_tiny_sd(folder),
    "sd2_v": lambda folder: save_tiny_sd(folder, prediction_type="v_prediction"),
    "sdxl": save_tiny_sdxl,
}


@pytest.fixture(scope="module", params=sorted(LAYOUTS))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LatentModel:
    folder = LAYOUTS[request.param](tmp_path_factory.mktemp(request.param))
    return LatentModel.from_pretrained(str(folder))


def test_a_prediction_recombines_to_the_latent_it_was_made_of(model: LatentModel) -> None:
    z = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    prior = BoundPrior(model, "ink")
    for t in (1, 400, 981):
        with torch.no_grad():
            prediction = prior.predict(z, t)
        ab = model.alphas_cumprod[t]
        again = ab.sqrt() * prediction.z0 + (1 - ab).sqrt() * prediction.eps
        torch.testing.assert_close(again, z, atol=2e-5, rtol=1e-5)


def test_guidance_extrapolates_between_the_two_branches(model: LatentModel) -> None:
    z = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        cond = BoundPrior(model, "ink").predict(z, 500).eps
        uncond = BoundPrior(model, "").predict(z, 500).eps
        guided = BoundPrior(model, "ink", 3.0).predict(z, 500).eps
    assert (cond - uncond).abs().max() > 1e-5
    torch.testing.assert_close(guided, uncond + 3.0 * (cond - uncond))


def test_encode_and_decode_use_the_scaling_factor_of_the_checkpoint(model: LatentModel) -> None:
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3)) * 2 - 1
    with torch.no_grad():
        z = model.encode(x)
        raw = model.vae.encode(x).latent_dist.mode()
    assert z.shape == (1, 4, 8, 8)
    torch.testing.assert_close(z, raw * 0.18215)


def test_the_embedded_model_round_trips_a_smooth_picture_above_thirty_decibels() -> None:
    model = LatentModel.from_pretrained("embedded")
    ramp = torch.linspace(-0.8, 0.8, 128)
    across, down = ramp[None].expand(128, -1), ramp[:, None].expand(-1, 128)
    x = torch.stack([across, down, 0 * across])[None]
    with torch.no_grad():
        again = model.decode(model.encode(x))
    psnr = 10 * torch.log10(4 / (again - x).square().mean())
    assert psnr > 30
    assert model.pixel_multiple == 16


def test_the_stated_noise_gain_of_the_embedded_latent_is_what_its_encoder_does() -> None:
    model = LatentModel.from_pretrained("embedded")
    stated = model.noise_gain
    model._noise_gain = None
    del model.__dict__["noise_gain"]
    # The encoder is trained onto the orthonormal latent, not made of it: it damps noise by two per cent.
    assert model.noise_gain == pytest.approx(stated, rel=0.03)


def test_the_embedded_model_refuses_prompts() -> None:
    with pytest.raises(ModelError, match="no text encoder"):
        BoundPrior(LatentModel.from_pretrained("embedded"), "ink")


def test_a_folder_without_the_diffusers_layout_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"vae/config\.json is missing"):
        LatentModel.from_pretrained(str(tmp_path))


def test_pickle_weights_are_never_loaded(tmp_path: Path) -> None:
    folder = save_tiny_sd(tmp_path)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({"a": torch.zeros(1)}, folder / "unet" / "diffusion_pytorch_model.bin")
    weights.unlink()
    with pytest.raises(ModelError, match="no safetensors weights"):
        LatentModel.from_pretrained(str(folder))


def test_truncated_weights_are_refused_by_name(tmp_path: Path) -> None:
    folder = save_tiny_sd(tmp_path)
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="vae cannot be loaded"):
        LatentModel.from_pretrained(str(folder))


def test_a_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a directory"):
        LatentModel.from_pretrained(str(tmp_path / "absent"))


def test_an_empty_prompt_is_one_evaluation_whatever_the_guidance(model: LatentModel) -> None:
    z = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    calls = []
    hook = model.unet.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        guided = BoundPrior(model, "", 7.5).predict(z, 500)
        plain = BoundPrior(model, "", 1.0).predict(z, 500)
        branches = BoundPrior(model, "").branches(z, 500)
    hook.remove()
    assert len(calls) == 3
    assert torch.equal(guided.eps, plain.eps)
    assert branches.uncond is branches.cond


def test_branches_are_the_predictions_with_and_without_the_prompt(model: LatentModel) -> None:
    z = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        both = BoundPrior(model, "ink").branches(z, 500)
        assert torch.equal(both.cond.eps, BoundPrior(model, "ink").predict(z, 500).eps)
        assert torch.equal(both.uncond.eps, BoundPrior(model, "").predict(z, 500).eps)


def test_a_prediction_type_that_no_solver_knows_is_refused_with_those_that_are() -> None:
    with pytest.raises(ModelError, match="'score' is not supported; use one of epsilon"):
        NoiseSchedule.read({"_class_name": "DDIMScheduler", "prediction_type": "score"})


def test_the_table_of_a_flow_is_that_of_its_signal_to_noise_ratio() -> None:
    schedule = NoiseSchedule.read({"_class_name": "FlowMatchEulerDiscreteScheduler"})
    ratio = (1 - schedule.alphas_cumprod[250]) / schedule.alphas_cumprod[250]
    assert float(ratio) == pytest.approx((0.25 / 0.75) ** 2)
    assert (schedule.kind, schedule.prediction_type) == ("flow", "flow_prediction")
