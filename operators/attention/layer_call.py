"""One call of one self-attention layer, before anybody has decided what it attends to."""

from __future__ import annotations

from dataclasses import dataclass

from diffusers.models.attention_processor import Attention
from torch import Tensor


@dataclass(frozen=True)
class LayerCall:
    """``tokens`` [B, L, C] about to enter the self-attention ``attn`` named ``layer``, in guidance branch
    ``branch``."""

    layer: str
    attn: Attention
    tokens: Tensor
    branch: str = "cond"

    @property
    def key(self) -> tuple[str, str]:
        """Where harvests keep this layer."""
        return self.branch, self.layer

    def heads(self) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, heads, L, d]."""
        rows, _, channels = self.tokens.shape
        split = (rows, -1, self.attn.heads, channels // self.attn.heads)
        q = self.attn.to_q(self.tokens).view(split).transpose(1, 2)
        k = self.attn.to_k(self.tokens).view(split).transpose(1, 2)
        v = self.attn.to_v(self.tokens).view(split).transpose(1, 2)
        return q, k, v

    def output(self, attended: Tensor) -> Tensor:
        """Output tokens [B, L, C] of what the heads gathered, [B, heads, L, d]."""
        rows, _, channels = self.tokens.shape
        merged = attended.transpose(1, 2).reshape(rows, -1, channels)
        return self.attn.to_out[1](self.attn.to_out[0](merged))
