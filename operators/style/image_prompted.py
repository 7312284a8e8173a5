"""Calls that are told the style's picture beside the prompt: by the tokens of an IP-Adapter.

What stylizes a frame is told, replays of its references too; inversions and other calls about a source are
made by priors of their own and know nothing, as the prompt is unknown to them. Only cross-attention is
concerned: what shares self-attention, and what is carried over in it, is left alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from diffusers.models.attention_processor import Attention
from torch import Tensor

from operators.adapters.image_prompt import ImagePrompt
from operators.models import BranchListener
from operators.solvers.base import LatentPrior, Prediction
from operators.style.adapter_aggregation import AggregatedCrossAttnProcessor


@dataclass(frozen=True)
class ImageTokens:
    """``tokens`` [2, N, D] of `ImagePrompt.tokens`, of no picture and of the style's; ``listener`` is told
    which guidance branch the next call belongs to."""

    tokens: Tensor
    listener: BranchListener

    def rows(self, like: Tensor) -> Tensor:
        """[B, 1, N, D] for text tokens ``like`` [B, L, D]: the same for all rows."""
        branch = 0 if self.listener.branch == "uncond" else 1
        return self.tokens[branch].to(like).expand(len(like), 1, -1, -1)


class ImagePromptedProcessor:
    """On a cross-attention layer: ``attend`` with the picture's tokens beside those of the text."""

    def __init__(self, attend: Any, image: ImageTokens) -> None:
        self.attend, self.image = attend, image

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Output tokens [B, L, C] under text tokens [B, T, D]."""
        both = (encoder_hidden_states, [self.image.rows(encoder_hidden_states)])
        return self.attend(attn, hidden_states, both, attention_mask=attention_mask, temb=temb)


class ImagePrompted:
    """A prior whose network calls are told ``image`` by ``prompt``; the rest is the wrapped prior's.

    ``aggregated``: text and picture are attended to apart and averaged (AFA) instead of added by the
    adapter's scale. Processors are in place for a call only, so other priors of the network do not meet them.
    """

    def __init__(
        self, prior: LatentPrior, prompt: ImagePrompt, image: ImageTokens, *, aggregated: bool = False
    ) -> None:
        self._prior = prior
        self._layers = {
            attention: ImagePromptedProcessor(
                AggregatedCrossAttnProcessor(adapter) if aggregated else adapter, image
            )
            for attention, adapter in prompt.layers.items()
        }

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)

    def predict(self, z: Tensor, t: int) -> Prediction:
        """The wrapped prior's prediction, told the picture."""
        with self._told():
            return self._prior.predict(z, t)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        with contextlib.ExitStack() as undo:
            for attention, processor in self._layers.items():
                undo.callback(attention.set_processor, attention.processor)
                attention.set_processor(processor)
            yield
