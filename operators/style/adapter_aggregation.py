"""Attention feature aggregation (RB-Modulation, arXiv 2405.17401, section 4.2) in SD-class networks, on the
image tokens of an IP-Adapter.

The paper's base model attends to its own tokens and the condition at once; here cross-attention has the
text and, with an adapter loaded, the style picture's tokens: out = mean(A_text, A_style, A_text+style) (our
reading of the mapping). Style tokens are replaced by their mean, as released: what is spatial in them goes.
"""

from __future__ import annotations

from typing import Any

from diffusers.models.attention_processor import Attention, IPAdapterAttnProcessor2_0
from torch import Tensor, nn

from operators.errors import OperatorError
from operators.style.aggregation import KeysValues, aggregated, mean_token, paper_combinations


class AggregatedCrossAttnProcessor(nn.Module):
    """In place of an ``adapter`` of one picture in a cross-attention layer, with its projections."""

    def __init__(self, adapter: IPAdapterAttnProcessor2_0) -> None:
        super().__init__()
        if len(adapter.to_k_ip) != 1:
            raise OperatorError(
                f"aggregation: {len(adapter.to_k_ip)} image adapters are loaded; it works with one"
            )
        self.to_k, self.to_v = adapter.to_k_ip[0], adapter.to_v_ip[0]

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: tuple[Tensor, list[Tensor]],
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """``encoder_hidden_states``: text tokens [B, L, D], and one tensor [B, pictures, N, D] of image
        tokens. Raises OperatorError for an attention mask."""
        if attention_mask is not None:
            raise OperatorError("aggregation: attention masks are not supported")
        text, (images,) = encoder_hidden_states
        style = mean_token(images.flatten(1, 2))

        def heads(x: Tensor) -> Tensor:
            return x.unflatten(2, (attn.heads, -1)).transpose(1, 2)

        of_text = KeysValues(heads(attn.to_k(text)), heads(attn.to_v(text)))
        of_style = KeysValues(heads(self.to_k(style)), heads(self.to_v(style)))
        out = aggregated(heads(attn.to_q(hidden_states)), paper_combinations([], of_text, of_style))
        return attn.to_out[1](attn.to_out[0](out.transpose(1, 2).flatten(2)))
