"""Self-attention of frames that read a reference inside one batch, and the match between the two.

The same arithmetic as `operators.attention.reading` with one reader, batched for training: rows [0, B) are
frames, rows [B, 2B) their references, which attend to themselves alone.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor

from operators.attention.install import shared_layers
from operators.attention.layer_call import LayerCall
from operators.attention.processors import SharedSelfAttnProcessor


@dataclass
class PairedAttention:
    """What the processors of one network share. ``reading``: names of the layers in which frames read
    their references. ``match`` is the batch's [B, 2] displacement in pixels while the match is taught, else
    None; ``match_losses`` collects one value per layer and call."""

    picture_side: int = 0
    reading: frozenset[str] = frozenset()
    match: Tensor | None = None
    match_losses: list[Tensor] = field(default_factory=list)

    def output(self, call: LayerCall) -> Tensor:
        """Output tokens [2B, L, C] of one self-attention layer."""
        return call.output(self.attend(call.layer, *call.heads()))

    def attend(self, layer: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention over ``q``, ``k``, ``v`` [2B, heads, L, d] of square token grids."""
        if layer not in self.reading:
            return F.scaled_dot_product_attention(q, k, v)
        rows = q.shape[0] // 2
        keys, values = (torch.cat([x[:rows], x[rows:]], 2) for x in (k, v))
        frames = F.scaled_dot_product_attention(q[:rows], keys, values)
        references = F.scaled_dot_product_attention(q[rows:], k[rows:], v[rows:])
        if self.match is not None:
            self.match_losses.append(self._match_loss(q[:rows], keys))
        return torch.cat([frames, references])

    def _match_loss(self, q: Tensor, keys: Tensor) -> Tensor:
        # One head stays free to look elsewhere.
        taught = max(1, q.shape[1] - 1)
        logits = q[:, :taught] @ keys[:, :taught].transpose(2, 3) / math.sqrt(q.shape[3])
        log_share = logits.float().log_softmax(3)[..., q.shape[2] :]
        target = match_target(self.match, math.isqrt(q.shape[2]), self.picture_side).to(q.device)
        return -(log_share * target[:, None]).sum() / (taught * target.sum().clamp_min(1.0))


def match_target(displacement: Tensor, tokens: int, side: int) -> Tensor:
    """Where each token of a frame lies in its reference: bilinear weights float32 [B, L, L], L = tokens^2.

    ``displacement`` int [B, 2] in pixels (rows, columns), ``tokens`` per side over ``side`` pixels. Rows of
    tokens that fall outside the reference are zero.
    """
    stride = side / tokens
    axes = []
    for axis in (0, 1):
        at = torch.arange(tokens)[None] + displacement[:, axis, None].cpu() / stride
        weight = (1.0 - (at[:, :, None] - torch.arange(tokens)[None, None]).abs()).clamp_min(0.0)
        axes.append(weight * (weight.sum(2, keepdim=True) > 1.0 - 1e-4))
    return torch.einsum("byi,bxj->byxij", *axes).flatten(3, 4).flatten(1, 2)


@contextlib.contextmanager
def pair_attention(unet: UNet2DConditionModel) -> Iterator[PairedAttention]:
    """Let frames of ``unet`` read their references inside the block."""
    state = PairedAttention()
    before = unet.attn_processors
    names = shared_layers(unet, decoder_only=False)
    unet.set_attn_processor({**before, **{n: SharedSelfAttnProcessor(n, state) for n in names}})
    try:
        yield state
    finally:
        unet.set_attn_processor(before)
