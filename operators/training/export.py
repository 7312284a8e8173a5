"""Writing a trained model as a diffusers checkpoint: fp16 safetensors, configs, latent facts, card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

from operators.klt import BlockKLT
from operators.model_card import read_front_matter, weight_digests, write_front_matter
from operators.training.fit import Point
from operators.training.networks import scheduler

LATENT_FILE = "latent.safetensors"


def write_latent(root: Path, klt: BlockKLT, eigenvalues: Tensor, null_condition: Tensor) -> None:
    """``latent.safetensors``: the analytic latent and the null condition [1, L, D]."""
    rest = klt.complement
    tensors = {
        "basis": klt.basis if rest is None else torch.cat([klt.basis, rest.basis], 1),
        "mean": klt.mean,
        "eigenvalues": eigenvalues,
        "null_condition": null_condition.float(),
    }
    facts = {"scale": repr(klt.scale), "block": str(klt.block), "channels": str(klt.basis.shape[1])}
    root.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: the next run begins by reading it.
    part = root / f"{LATENT_FILE}.part"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, facts)
    _sort_metadata(part)
    part.replace(root / LATENT_FILE)


def _sort_metadata(path: Path) -> None:
    """safetensors writes metadata in an order of chance; equal runs are to leave equal files."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


def write_network(root: Path, part: str, network: AutoencoderKL | UNet2DConditionModel) -> None:
    """``root``/part in fp16, and the scheduler beside it."""
    network.half().save_pretrained(root / part, safe_serialization=True)
    # diffusers notes the folder that training began from, which is nobody else's.
    config = root / part / "config.json"
    facts = json.loads(config.read_text())
    facts.pop("_name_or_path", None)
    config.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
    scheduler().save_config(root / "scheduler")


def write_card(root: Path, training: Mapping[str, Any], curves: Mapping[str, Sequence[Point]]) -> None:
    """Digests and the facts of the training run as front matter; the body of a card that is there stays.
    The curves go to ``curves.json``."""
    facts, body = read_front_matter(root)
    before = facts.get("training")
    facts["training"] = {**(before if isinstance(before, dict) else {}), **training}
    facts["sha256"] = weight_digests(root)
    write_front_matter(
        root, facts, body or "# A latent diffusion prior trained by `reelweave train-embedded`\n"
    )
    path = root / "curves.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept.update(
        {
            name: [
                {
                    "iteration": p.iteration,
                    "seconds": round(p.seconds),
                    "loss": round(p.loss, 5),
                    **{key: round(value, 5) for key, value in p.held_out.items()},
                }
                for p in points
            ]
            for name, points in curves.items()
        }
    )
    path.write_text(json.dumps(kept, indent=1) + "\n")
