"""Networks of SD3 (Esser et al. 2024, "Scaling Rectified Flow Transformers for High-Resolution Image
Synthesis", arXiv 2403.03206): multimodal transformers that predict a flow."""

from __future__ import annotations

from pathlib import Path
from typing import TypeGuard

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn

from operators.checkpoint_files import load_part, read_json
from operators.errors import ModelError, OperatorError
from operators.text_encoders import Conditioning

CLASS = "SD3Transformer2DModel"


def is_mmdit(network: nn.Module) -> TypeGuard[SD3Transformer2DModel]:
    """Whether ``network`` is one of these, and no UNet."""
    return isinstance(network, SD3Transformer2DModel)


def load_mmdit(root: Path, dtype: torch.dtype) -> SD3Transformer2DModel:
    """The network below ``root / transformer``. Raises ModelError, also for transformers of other classes."""
    found = read_json(root / "transformer" / "config.json").get("_class_name")
    if found != CLASS:
        raise ModelError(f"{root / 'transformer'} holds a {found}; of transformers only {CLASS} is loaded")
    network: SD3Transformer2DModel = load_part(SD3Transformer2DModel, root, "transformer", dtype)
    return network


def largest_side(network: SD3Transformer2DModel) -> int:
    """Latent cells along a side for which the network knows positions."""
    return int(network.config.pos_embed_max_size * network.config.patch_size)


def mmdit_output(network: SD3Transformer2DModel, z: Tensor, t: int, condition: Conditioning) -> Tensor:
    """Flow [B, C, h, w] float32 at the integer timestep ``t``, 1000 times the flow time."""
    if condition.pooled is None:
        raise OperatorError(
            "model: an SD3 network reads pooled text, and this checkpoint has no text_encoder/"
        )
    rows = z.shape[0]
    flow: Tensor = network(
        z.to(network.dtype),
        encoder_hidden_states=condition.tokens.expand(rows, -1, -1),
        pooled_projections=condition.pooled.expand(rows, -1),
        timestep=torch.full((rows,), t, device=z.device),
    ).sample
    return flow.float()
