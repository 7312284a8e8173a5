"""A training run, whole: the checkpoint it writes, equal bits for equal settings, and what it refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from operators.errors import ModelError, TrainingError
from operators.klt import load_klt
from operators.model_card import CARD, read_front_matter, verify_weights
from operators.models import EMBEDDED, BoundPrior, LatentModel
from operators.training import prior
from operators.training.fit import Point
from operators.training.run import TrainingSettings, train
from tests.support.tiny_models import tiny_sd_unet, tiny_vae
from tests.support.training_pictures import write_pictures

PIXELS = 32_768
UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
#: Pairs behind the held-out table: 24 of them take nine seconds.
PAIRS = 2
#: The autoencoder gets half as many again.
ITERATIONS = {"vae": 3, "unet": 2}


@pytest.fixture(scope="module", autouse=True)
def _small_table_and_threads_put_back() -> Iterator[None]:
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prior, "HELD_OUT_PAIRS", PAIRS)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("set") / "pictures", 9)


def settings(pictures: Path, out: Path, **changes: Any) -> TrainingSettings:
    plain = TrainingSettings(pictures, out, iterations=ITERATIONS["unet"], pixels=PIXELS)
    return dataclasses.replace(plain, **changes)


def run(chosen: TrainingSettings) -> dict[str, list[Point]]:
    return train(chosen, itertools.count().__next__, lambda point: None)


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "out"
    run(settings(pictures, out))
    return out


@pytest.fixture
def start(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained checkpoint, without the files of its training."""
    return Path(shutil.copytree(trained, tmp_path / "start", ignore=shutil.ignore_patterns("training")))


def weights(out: Path) -> dict[str, str]:
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*.safetensors"))
    }


@torch.no_grad()
def test_the_folder_written_loads_as_a_model_and_denoises(trained: Path) -> None:
    model = LatentModel.from_pretrained(str(trained))
    assert model.prediction_type == "v_prediction"
    assert (model.latent_channels, model.pixel_multiple) == (12, 16)
    x = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    z = BoundPrior(model).encode(x)
    prediction = BoundPrior(model).predict(z, 400)
    again = model.decode(prediction.z0)
    assert again.shape == x.shape
    assert bool(torch.isfinite(again).all())
    assert model.noise_gain == pytest.approx(load_klt(trained / "latent.safetensors").scale)


def test_weights_are_written_in_half_precision(trained: Path) -> None:
    for name in (UNET, VAE):
        assert {tensor.dtype for tensor in load_file(trained / name).values()} == {torch.float16}


def test_the_latent_written_is_that_of_the_training_pictures(trained: Path) -> None:
    klt = load_klt(trained / "latent.safetensors")
    torch.testing.assert_close(klt.basis.T @ klt.basis, torch.eye(12), atol=1e-5, rtol=0)
    tensors = load_file(trained / "latent.safetensors")
    assert not tensors["null_condition"].any()
    values = tensors["eigenvalues"]
    assert bool((values[:-1] >= values[1:]).all())
    assert klt.scale == pytest.approx(float(values[:12].mean()) ** -0.5, rel=1e-5)


def test_the_card_states_digests_and_how_it_was_made_and_the_curves_are_beside_it(trained: Path) -> None:
    facts, body = read_front_matter(trained)
    assert facts["sha256"] == weights(trained)
    assert sorted(facts["sha256"]) == ["latent.safetensors", UNET, VAE]
    assert (facts["training"]["pictures"], facts["training"]["held_out"]) == (7, 2)
    for part in ("vae", "unet"):
        made = facts["training"][part]
        assert (made["iterations"], made["seed"], made["pixels"], made["start"]) == (
            ITERATIONS[part], 0, PIXELS, None,
        )  # fmt: skip
    assert body.startswith("# ")
    curves = json.loads((trained / "curves.json").read_text())
    assert curves["unet"][-1].keys() >= {"iteration", "loss", "t150_none", "t600_foreign"}
    assert curves["vae"][-1]["iteration"] == ITERATIONS["vae"]


def test_a_file_edited_after_training_is_found(start: Path) -> None:
    verify_weights(start)
    (start / VAE).write_bytes((start / VAE).read_bytes()[:-2] + b"\x01\x02")
    with pytest.raises(ModelError, match="vae/diffusion_pytorch_model"):
        LatentModel.from_pretrained(str(start))


def test_running_again_trains_nothing_and_writes_the_same_weights(
    pictures: Path, trained: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "out"))
    heard: list[Point] = []
    curves = train(settings(pictures, out), itertools.count().__next__, heard.append)
    assert heard == []
    assert {part: points[-1].iteration for part, points in curves.items()} == ITERATIONS
    assert weights(out) == weights(trained)
    assert read_front_matter(out) == read_front_matter(trained)


def test_equal_seeds_give_equal_bits_part_by_part_and_another_seed_does_not(
    pictures: Path, trained: Path, tmp_path: Path
) -> None:
    for part in ("vae", "unet"):
        run(settings(pictures, tmp_path / "again", parts=(part,)))
    assert weights(tmp_path / "again") == weights(trained)
    run(settings(pictures, tmp_path / "other", parts=("vae",), seed=1))
    other = weights(tmp_path / "other")
    assert other["latent.safetensors"] == weights(trained)["latent.safetensors"]
    assert other[VAE] != weights(trained)[VAE]


class Killed(Exception):  # noqa: N818
    """The process was told to end."""


def test_a_killed_run_ends_at_the_bits_of_an_unbroken_one(
    pictures: Path, trained: Path, tmp_path: Path
) -> None:
    chosen = settings(pictures, tmp_path / "out", parts=("vae",), save_every=0.0, report_every=0.0)
    heard = []

    def kill(point: Point) -> None:
        heard.append(point.iteration)
        if point.iteration == 2:
            raise Killed

    with pytest.raises(Killed):
        train(chosen, itertools.count().__next__, kill)
    assert heard == [1, 2]
    assert not (tmp_path / "out" / "vae").exists()
    # A kill while the latent was being written leaves a part of it.
    (tmp_path / "out" / "latent.safetensors.part").write_bytes(b"half")
    curves = train(chosen, itertools.count().__next__, lambda point: heard.append(point.iteration))
    assert heard == [1, 2, 2, 3]
    assert [point.iteration for point in curves["vae"]] == [1, 2, 3]
    assert weights(tmp_path / "out")[VAE] == weights(trained)[VAE]


def test_a_run_from_a_checkpoint_keeps_its_latent_and_its_untouched_layers(
    pictures: Path, start: Path, tmp_path: Path
) -> None:
    run(settings(pictures, tmp_path / "out", parts=("unet",), start=start, wake=True))
    assert (tmp_path / "out" / "latent.safetensors").read_bytes() == (
        start / "latent.safetensors"
    ).read_bytes()
    before, after = load_file(start / UNET), load_file(tmp_path / "out" / UNET)
    moved = (before["conv_in.weight"].float() - after["conv_in.weight"].float()).abs().max()
    # Two warm-up steps of Adam, averaged.
    assert 0 < float(moved) < 1e-3
    facts = read_front_matter(tmp_path / "out")[0]["training"]["unet"]
    assert (facts["start"], facts["wake"]) == (str(start), True)
    assert (tmp_path / "out" / VAE).read_bytes() == (start / VAE).read_bytes()
    assert str(start) not in (tmp_path / "out" / UNET).with_name("config.json").read_text()


def refused(chosen: TrainingSettings, *texts: str | Path) -> None:
    with pytest.raises(TrainingError) as caught:
        run(chosen)
    assert all(str(text) in str(caught.value) for text in texts), caught.value
    assert "\n" not in str(caught.value)


def test_a_checkpoint_begun_from_elsewhere_is_not_gone_on_with(
    pictures: Path, trained: Path, start: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "out"))
    refused(settings(pictures, out, parts=("vae",), start=start), "vae.checkpoint.pt", "start")
    refused(settings(pictures, out, parts=("vae",), seed=1), "vae.checkpoint.pt", "seed")
    refused(settings(pictures, out, parts=("vae",), iterations=9), "vae.checkpoint.pt", "length")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"iterations": None}, "either --minutes or --iterations"),
        ({"minutes": 1.0}, "either --minutes or --iterations"),
        ({"iterations": 0}, "--iterations must be at least 1"),
        ({"iterations": None, "minutes": 0.0}, "--minutes must be above 0"),
        ({"iterations": None, "minutes": float("nan")}, "--minutes must be above 0"),
        ({"iterations": None, "minutes": float("inf")}, "--minutes must be above 0"),
        ({"parts": ("vae", "text")}, "--part: text"),
        ({"parts": ()}, "--part: nothing"),
        ({"wake": True}, "--wake needs --start-from"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused_before_anything_is_written(
    pictures: Path, tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    refused(settings(pictures, tmp_path / "out", **changes), text)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_refused(pictures: Path, tmp_path: Path) -> None:
    refused(settings(pictures, tmp_path / "out", device="cuda"), "--device cuda", "--device cpu")


def test_an_output_that_is_a_file_or_lies_below_one_is_refused(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refused(settings(pictures, tmp_path / "file"), tmp_path / "file", "not a folder")
    refused(settings(pictures, tmp_path / "file" / "out"), tmp_path / "file" / "out", "cannot be made")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_start_that_is_no_embedded_model_is_refused(pictures: Path, tmp_path: Path) -> None:
    for name in ("absent", "empty"):
        chosen = settings(pictures, tmp_path / "out", start=tmp_path / name)
        refused(chosen, tmp_path / name, "has no latent.safetensors")
        (tmp_path / "empty").mkdir(exist_ok=True)


@pytest.mark.parametrize("part", ["vae", "unet"])
def test_a_start_with_truncated_weights_is_refused_with_and_without_a_card(
    pictures: Path, start: Path, tmp_path: Path, part: str
) -> None:
    path = start / (UNET if part == "unet" else VAE)
    path.write_bytes(path.read_bytes()[:-1000])
    chosen = settings(pictures, tmp_path / "out", start=start, parts=(part,))
    refused(chosen, path, "model card")
    (start / CARD).unlink()
    refused(chosen, start / part, "cannot be started from")


def test_a_start_with_a_damaged_or_incomplete_latent_is_refused(
    pictures: Path, start: Path, tmp_path: Path
) -> None:
    path = start / "latent.safetensors"
    sound = path.read_bytes()
    chosen = settings(pictures, tmp_path / "out", start=start)
    path.write_bytes(sound[:2000])
    refused(chosen, path, "cannot be read")
    facts = {"scale": "1.0", "block": "4", "channels": "12"}
    save_file({"basis": torch.eye(48), "mean": torch.zeros(48)}, path, facts)
    refused(chosen, path, "eigenvalues")
    facts_of = {"basis": torch.eye(48), "mean": torch.zeros(48), "eigenvalues": torch.ones(48)}
    save_file(facts_of, path, facts)
    refused(chosen, path, "incomplete", "null_condition")


@pytest.mark.parametrize("part", ["vae", "unet"])
def test_a_start_with_other_channels_is_refused(pictures: Path, tmp_path: Path, part: str) -> None:
    start = tmp_path / "start"
    (tiny_vae() if part == "vae" else tiny_sd_unet()).save_pretrained(start / part)
    shutil.copy(EMBEDDED / "latent.safetensors", start)
    chosen = settings(pictures, tmp_path / "out", start=start, parts=(part,))
    refused(chosen, start / part, "4 latent channels", "12")
