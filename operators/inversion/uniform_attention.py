"""Uniform attention maps (Mo et al. 2024, arXiv 2411.19652): cross-attention that weighs all tokens alike.

While inverting, prompt-dependent maps are what changes between the level that is left and the one that is
entered; with the probability 1 / L for each of L tokens the output is the mean of the values, whatever the
latent. Cheaper than attention: no queries, no keys.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor

from operators.errors import OperatorError
from operators.solvers.base import LatentPrior, Prediction


class UniformCrossAttnProcessor:
    """Drop-in for diffusers' AttnProcessor2_0 on a cross-attention layer of a UNet."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Mean value of the tokens for every query [B, L, C]. Raises OperatorError for a mask."""
        if attention_mask is not None:
            raise OperatorError("uniform attention maps: padded prompts with a mask are not supported")
        mean = attn.to_v(encoder_hidden_states).mean(1, keepdim=True)
        out = attn.to_out[1](attn.to_out[0](mean))
        return out.expand(-1, hidden_states.shape[1], -1)


@contextlib.contextmanager
def uniform_cross_attention(unet: UNet2DConditionModel) -> Iterator[None]:
    """Uniform maps in every cross-attention of ``unet`` inside the block; its processors come back after."""
    with contextlib.ExitStack() as undo:
        for name, module in unet.named_modules():
            if isinstance(module, Attention) and name.endswith("attn2"):
                undo.callback(module.set_processor, module.processor)
                module.set_processor(UniformCrossAttnProcessor())
        yield


class UniformMaps:
    """A prior that predicts under uniform maps; everything else is the wrapped prior's."""

    def __init__(self, prior: LatentPrior, unet: UNet2DConditionModel) -> None:
        self._prior, self._unet = prior, unet

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)

    def predict(self, z: Tensor, t: int) -> Prediction:
        """For inversion; sample with the wrapped prior."""
        with uniform_cross_attention(self._unet):
            return self._prior.predict(z, t)
