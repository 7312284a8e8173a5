"""Whether a stylization after a restoration could take its latent instead of its pictures."""

from __future__ import annotations

from typing import Any, Literal

from jobs.bench.style_scores import Frames

_CODES = 127.5


def handover_rows(frame: Frames) -> tuple[dict[str, Any], ...]:
    """What decoding and encoding again does to a latent z, for both autoencoders of the embedded model, on a
    frame uint8 [h, w, 3].

    ``latent`` is the rms of E(D(z)) - z over that of z, ``clipped`` the same with the picture clipped to
    [-1, 1] in between, as stages do, ``codes`` the mean change of the picture in codes of 255.
    """
    return tuple(_row(autoencoder, frame) for autoencoder in ("vae", "analytic"))


def _row(autoencoder: Literal["vae", "analytic"], frame: Frames) -> dict[str, Any]:
    import torch

    from operators.models import LatentModel
    from operators.pictures import to_tensor

    model = LatentModel.from_pretrained("embedded", precision="fp32", autoencoder=autoencoder)
    with torch.no_grad():
        z = model.encode(to_tensor(frame[None]))
        picture = model.decode(z)
        again, clipped = model.encode(picture), model.encode(picture.clamp(-1, 1))
        moved = (model.decode(clipped) - picture).abs().mean()
    size = z.square().mean().sqrt()
    return {
        "autoencoder": autoencoder,
        "latent": float(f"{float((again - z).square().mean().sqrt() / size):.2g}"),
        "clipped": float(f"{float((clipped - z).square().mean().sqrt() / size):.2g}"),
        "codes": round(float(moved) * _CODES, 3),
    }
