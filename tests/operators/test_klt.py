"""The analytic latent: an isometry on its span, fitted from known statistics, what the checkpoint does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from operators.errors import ModelError
from operators.klt import BlockKLT, fit_klt, load_klt
from operators.models import EMBEDDED, LatentModel

BLOCK = 4
SIZE = 3 * BLOCK * BLOCK
CHANNELS = 12


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some_klt() -> BlockKLT:
    basis = torch.linalg.qr(normal(SIZE, SIZE).double())[0][:, :CHANNELS].float()
    return BlockKLT(basis.contiguous(), 0.2 * normal(SIZE, seed=1), 1.7)


def test_what_is_decoded_encodes_to_the_same_latent() -> None:
    klt, z = some_klt(), normal(2, CHANNELS, 6, 5, seed=2)
    x = klt.decode(z)
    assert x.shape == (2, 3, 24, 20)
    torch.testing.assert_close(klt.encode(x), z, atol=1e-5, rtol=0)


def test_a_round_trip_is_the_orthogonal_projection_of_each_block() -> None:
    klt, x = some_klt(), normal(1, 3, 8, 12, seed=3)
    again = klt.decode(klt.encode(x))
    blocks, kept = (F.pixel_unshuffle(p, BLOCK)[0].flatten(1).T - klt.mean for p in (x, again))
    torch.testing.assert_close(kept, blocks @ klt.basis @ klt.basis.T, atol=1e-5, rtol=0)


def test_white_pixel_noise_becomes_white_latent_noise_of_the_stated_gain() -> None:
    klt, x = some_klt(), 0.5 * normal(2, 3, 256, 256, seed=4)
    noise = 0.1 * normal(2, 3, 256, 256, seed=5)
    change = (klt.encode(x + noise) - klt.encode(x)).transpose(0, 1).flatten(1) / 0.1
    covariance = change @ change.T / change.shape[1]
    # 8192 samples: the standard error of an entry is at most sqrt(2 / 8192) = 1.6 % of the variance.
    expected = klt.scale**2 * torch.eye(CHANNELS)
    torch.testing.assert_close(covariance, expected, atol=0.07 * klt.scale**2, rtol=0)


def test_fitting_recovers_subspace_eigenvalues_mean_and_scale_of_known_blocks() -> None:
    block, kept = 2, 5
    size, count = 3 * block * block, 4096
    axes = torch.linalg.qr(normal(size, size, seed=6).double())[0]
    variances = torch.tensor([9.0, 7, 5, 3, 2, 1, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05]).double()
    mean = torch.linspace(-0.4, 0.4, size).double()
    # Coefficients whose sample mean and covariance are exactly 0 and 1.
    raw = normal(count, size, seed=7).double()
    white = torch.linalg.qr(raw - raw.mean(0))[0] * count**0.5
    rows = mean + (white * variances.sqrt()) @ axes.T
    pictures = [F.pixel_shuffle(part.T.view(1, size, 64, 32), block)[0] for part in rows.split(2048)]

    klt, values = fit_klt(pictures, block=block, channels=kept)

    torch.testing.assert_close(values.double(), variances, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(klt.mean.double(), mean, atol=1e-6, rtol=0)
    assert klt.scale == pytest.approx(float(variances[:kept].mean()) ** -0.5, rel=1e-5)
    assert klt.block == block
    basis = klt.basis.double()
    torch.testing.assert_close((basis * axes[:, :kept]).sum(0).abs(), torch.ones(kept).double())
    strongest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    assert bool((strongest > 0).all())
    latents = torch.cat([klt.encode(picture[None].float())[0].flatten(1) for picture in pictures], 1)
    assert float(latents.var(1, correction=0).mean()) == pytest.approx(1.0, rel=1e-4)


def test_the_sign_of_a_component_does_not_depend_on_the_sign_of_the_pictures() -> None:
    pictures = [normal(3, 32, 32, seed=seed) for seed in range(4)]
    one, _ = fit_klt(pictures, block=2, channels=6)
    other, _ = fit_klt([-picture for picture in pictures], block=2, channels=6)
    torch.testing.assert_close(one.basis, other.basis, atol=1e-5, rtol=0)
    torch.testing.assert_close(one.mean, -other.mean, atol=1e-6, rtol=0)


def test_the_shipped_latent_is_orthonormal_and_what_the_shipped_encoder_computes() -> None:
    klt = load_klt(EMBEDDED / "latent.safetensors")
    torch.testing.assert_close(klt.basis.T @ klt.basis, torch.eye(CHANNELS), atol=1e-5, rtol=0)
    ramp = torch.linspace(-1, 1, 128)
    smooth = torch.stack([ramp.expand(128, -1), ramp.expand(128, -1).T, (ramp * ramp).expand(128, -1)])
    x = (0.7 * smooth + 0.05 * F.avg_pool2d(normal(3, 128, 128, seed=8), 3, 1, 1))[None]
    model = LatentModel.from_pretrained("embedded")
    with torch.no_grad():
        learnt = model.encode(x)
    exact = klt.encode(x)
    error = float((learnt - exact).square().mean() / exact.square().mean())
    assert error < 0.02
    assert model.noise_gain == pytest.approx(klt.scale)


def test_a_missing_latent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"latent\.safetensors is missing"):
        load_klt(tmp_path / "latent.safetensors")


def test_a_truncated_latent_file_is_named(tmp_path: Path) -> None:
    path = Path(shutil.copy(EMBEDDED / "latent.safetensors", tmp_path))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"latent\.safetensors cannot be read"):
        load_klt(path)


@pytest.mark.parametrize(
    "facts", [None, {"scale": "1.0"}, {"scale": "wide", "channels": "12"}], ids=["none", "few", "wrong"]
)
def test_a_latent_file_without_its_facts_is_named(tmp_path: Path, facts: dict[str, str] | None) -> None:
    path = tmp_path / "latent.safetensors"
    save_file({"basis": torch.eye(SIZE), "mean": torch.zeros(SIZE)}, path, facts)
    with pytest.raises(ModelError, match=r"latent\.safetensors cannot be read"):
        load_klt(path)
