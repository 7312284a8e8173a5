"""Several prompts in one picture: energy-based cross-attention (EBCA, Park et al. 2023, arXiv 2306.09869).

CACAO (section 3.3): the output of every cross-attention is the weighted mean of those of a main context and
of editorial ones, (attn(C) + sum_s a_s attn(C_s)) / (1 + sum_s a_s); a style prompt is an editorial context
and its weight the style's strength, negative to push away. It does not depend on the frame.

BCU (eq. 9): contexts move up the posterior of the latent from layer to layer,
C += [gamma_attn softmax_cells(k q^T / sqrt(d)) q - gamma_norm softmax_tokens(|k|^2) k] W_K. Off by default:
it makes a context depend on its frame. Our reading: heads apart, and all contexts begin anew in every
network call (the released code lets editorial ones drift over the whole run), so that a call is a function
of its input alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor

from operators.errors import OperatorError
from operators.models import BoundPrior, BranchListener, LatentModel
from operators.solvers.base import Prediction
from operators.solvers.guidance import Branches

#: The sum of weights may not come nearer to -1: the mean would be divided by nothing.
_LEAST = 0.05


@dataclass(frozen=True)
class Editorial:
    """A further context: ``tokens`` [1, L, D] of a prompt and its ``weight``. ``gamma`` is the step of
    BCU."""

    tokens: Tensor
    weight: float
    gamma: float = 0.0


@dataclass
class CrossContexts:
    """State of one installed network. ``branch`` is set by the caller ("cond" or "uncond"), as for shared
    attention: contexts are blended in the "cond" branch only; ``active`` switches all of it."""

    editorials: tuple[Editorial, ...]
    gamma: float = 0.0
    branch: str = "cond"
    active: bool = True
    _moved: dict[int, Tensor] = field(default_factory=dict)

    def output(self, attn: Attention, tokens: Tensor, context: Tensor) -> Tensor:
        """Output tokens [B, L, C] of one cross-attention layer under ``context`` [B, N, D]."""
        plain = not self.active or self.branch != "cond"
        parts = [(1.0, self.gamma, context)]
        for e in self.editorials:
            parts.append((e.weight, e.gamma, e.tokens.to(context).expand(len(context), -1, -1)))
        q = _heads(attn, attn.to_q(tokens))
        if plain:
            return _project(attn, _attended(attn, q, context))
        total = sum(weight for weight, _, _ in parts)
        out = torch.zeros_like(q)
        for number, (weight, gamma, given) in enumerate(parts):
            current = self._moved.get(number, given)
            out = out + weight * _attended(attn, q, current)
            if gamma:
                self._moved[number] = _updated(attn, q, current, gamma)
        return _project(attn, out / total)

    def begin(self) -> None:
        """A new network call: contexts are where they were given."""
        self._moved = {}


class BothBranches:
    """A `BranchListener` for a prior whose network shares self-attention and blends prompts: tells both."""

    def __init__(self, *listeners: BranchListener) -> None:
        self._listeners = listeners

    @property
    def branch(self) -> str:
        """The branch that all were told."""
        return self._listeners[0].branch

    @branch.setter
    def branch(self, name: str) -> None:
        for listener in self._listeners:
            listener.branch = name


class CrossContextProcessor:
    """Drop-in for diffusers' AttnProcessor2_0 on a cross-attention layer of a UNet."""

    def __init__(self, contexts: CrossContexts) -> None:
        self.contexts = contexts

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Raises OperatorError for an attention mask."""
        if attention_mask is not None:
            raise OperatorError("prompts: attention masks cannot be combined with several prompts")
        return self.contexts.output(attn, hidden_states, encoder_hidden_states)


@contextlib.contextmanager
def blend_contexts(
    unet: UNet2DConditionModel, editorials: Sequence[Editorial], *, gamma: float = 0.0
) -> Iterator[CrossContexts]:
    """Blend ``editorials`` into every cross-attention of ``unet`` inside the block; ``gamma`` is BCU's step
    of the main context. Raises OperatorError when the weights cancel the main context."""
    total = 1.0 + sum(editorial.weight for editorial in editorials)
    if total < _LEAST:
        raise OperatorError(f"prompts: weights sum to {total - 1:g}; keep their sum above {_LEAST - 1:g}")
    contexts = CrossContexts(tuple(editorials), gamma)
    with contextlib.ExitStack() as undo:
        for name, module in unet.named_modules():
            if isinstance(module, Attention) and name.endswith("attn2"):
                undo.callback(module.set_processor, module.processor)
                module.set_processor(CrossContextProcessor(contexts))
        undo.callback(unet.register_forward_pre_hook(lambda *_: contexts.begin()).remove)
        yield contexts


class BlendedPrompts:
    """A branch prior of ``prompt`` and ``guidance`` into whose cross-attention ``editorials`` are blended.
    Each network call installs and removes the blend, so others of the network do not meet it; ``session`` is
    told the branches as by any prior."""

    def __init__(
        self,
        model: LatentModel,
        prompt: str,
        guidance: float,
        editorials: Sequence[Editorial],
        session: BranchListener,
    ) -> None:
        self._unet, self._editorials, self._session = model.unet, tuple(editorials), session
        self._contexts: CrossContexts | None = None
        self._prior = BoundPrior(model, prompt, guidance, self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prior, name)

    @property
    def branch(self) -> str:
        """The branch that was told last."""
        return self._session.branch

    @branch.setter
    def branch(self, name: str) -> None:
        self._session.branch = name
        if self._contexts is not None:
            self._contexts.branch = name

    def predict(self, z: Tensor, t: int) -> Prediction:
        """See `BoundPrior.predict`."""
        with self._blended():
            return self._prior.predict(z, t)

    def branches(self, z: Tensor, t: int) -> Branches:
        """See `BoundPrior.branches`."""
        with self._blended():
            return self._prior.branches(z, t)

    @contextlib.contextmanager
    def _blended(self) -> Iterator[None]:
        with blend_contexts(self._unet, self._editorials) as self._contexts:
            try:
                yield
            finally:
                self._contexts = None


def _heads(attn: Attention, x: Tensor) -> Tensor:
    return x.unflatten(2, (attn.heads, -1)).transpose(1, 2)


def _attended(attn: Attention, q: Tensor, context: Tensor) -> Tensor:
    k, v = _heads(attn, attn.to_k(context)), _heads(attn, attn.to_v(context))
    return F.scaled_dot_product_attention(q, k, v)


def _project(attn: Attention, attended: Tensor) -> Tensor:
    return attn.to_out[1](attn.to_out[0](attended.transpose(1, 2).flatten(2)))


def _updated(attn: Attention, q: Tensor, context: Tensor, gamma: float) -> Tensor:
    """BCU with equal steps for both terms; softmaxes in float32."""
    k = _heads(attn, attn.to_k(context))
    likeness = (k.float() @ q.float().transpose(2, 3)) / q.shape[3] ** 0.5
    drawn = likeness.softmax(3).to(q) @ q
    size = k.float().square().sum(3, keepdim=True).softmax(2).to(k)
    change = (drawn - size * k).transpose(1, 2).flatten(2)
    return context + gamma * (change @ attn.to_k.weight)
