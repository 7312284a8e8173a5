"""The attention processor that diffusers calls in a self-attention layer."""

from __future__ import annotations

from typing import Protocol

from diffusers.models.attention_processor import Attention
from torch import Tensor

from operators.attention.layer_call import LayerCall
from operators.errors import OperatorError


class Attends(Protocol):
    """What decides over the self-attention of a network."""

    def output(self, call: LayerCall) -> Tensor:
        """Output tokens [B, L, C] of one self-attention layer."""


class SharedSelfAttnProcessor:
    """Drop-in for diffusers' AttnProcessor2_0 on a self-attention layer of a UNet."""

    def __init__(self, layer: str, session: Attends) -> None:
        self.layer, self.session = layer, session

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Self-attention over tokens [B, L, C]. Raises OperatorError for an attention mask."""
        if attention_mask is not None:
            raise OperatorError(f"{self.layer}: attention masks cannot be combined with shared attention")
        return self.session.output(LayerCall(self.layer, attn, hidden_states))
