"""DeepCache (Ma, Fang and Wang 2024, "DeepCache: Accelerating Diffusion Models for Free", arXiv 2312.00858).

What the deep blocks of a UNet see changes slowly from step to step. On a full step the whole network runs,
and the hidden state that enters its last decoder unit is kept; on a cached step only `conv_in`, that unit and
the output layers run, on the kept state and a fresh skip (the paper's branch 0).

Which steps are full is fixed by the schedule alone, and every row has a state of its own: what a frame
becomes depends neither on values nor on the rows that it was computed beside.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor, nn

from operators.attention.session import SharedAttention
from operators.errors import OperatorError


@dataclass(frozen=True)
class CacheSchedule:
    """Full steps are every ``every``-th, beginning with step 0, and those in ``switches``, where something
    begins or ends that the kept states know nothing of. Raises OperatorError for ``every`` below 1."""

    every: int
    switches: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.every < 1:
            raise OperatorError(f"deepcache.every: {self.every} is below 1; 1 caches nothing, 3 is usual")

    def is_full(self, step: int) -> bool:
        """Whether the whole network runs at ``step``, counted from 0."""
        return step % self.every == 0 or step in self.switches

    def last_full(self, step: int) -> int:
        """The latest full step up to ``step``."""
        return next(at for at in range(step, -1, -1) if self.is_full(at))


class StepCalls(Protocol):
    """Says whose network calls, at which step, are those inside a block."""

    def at(self, who: Hashable, step: int) -> contextlib.AbstractContextManager[None]:
        """Calls inside are those of ``who``: rows that go through the steps together."""


class Uncached:
    """Every call runs the whole network."""

    def at(self, who: Hashable, step: int) -> contextlib.AbstractContextManager[None]:
        """Nothing happens."""
        return contextlib.nullcontext()


@dataclass(frozen=True)
class DeepCache:
    """DeepCache for ``unet``, whose calls report their guidance branch to ``session``."""

    unet: UNet2DConditionModel
    session: SharedAttention
    schedule: CacheSchedule

    @contextlib.contextmanager
    def pass_over_steps(self) -> Iterator[StepCalls]:
        """Within, the calls that `StepCalls.at` speaks of are cached; nothing is known from passes before.

        One kept state [B, C, h, w] per ``who``, guidance branch and role (the source of an edit has one of
        its own), in the network's dtype: C is 320 and h, w the latent's sides for SD1.5.
        """
        states = _States(self)
        with contextlib.ExitStack() as undo:
            hook = _last_unit(self.unet).register_forward_pre_hook(states.keep)
            undo.callback(hook.remove)
            undo.callback(_restored, self.unet, vars(self.unet).get("forward"))
            self.unet.forward = functools.partial(states.call, self.unet.forward)
            yield states


class _States:
    """What one pass over the steps keeps."""

    def __init__(self, cache: DeepCache) -> None:
        self._cache = cache
        self._kept: dict[Hashable, tuple[int, Tensor]] = {}
        self._now: tuple[Hashable, int] | None = None
        self._keeping: Hashable | None = None

    @contextlib.contextmanager
    def at(self, who: Hashable, step: int) -> Iterator[None]:
        before, self._now = self._now, (who, step)
        try:
            yield
        finally:
            self._now = before

    def keep(self, _unit: nn.Module, args: tuple[Any, ...]) -> None:
        """Before the last unit runs on [state | skip]: the state is kept on full steps."""
        if self._keeping is None or self._now is None:
            return
        skip = self._cache.unet.conv_in.out_channels
        self._kept[self._keeping] = self._now[1], args[0][:, :-skip].detach()

    def call(
        self,
        whole: Callable[..., Any],
        sample: Tensor,
        timestep: Tensor | int,
        encoder_hidden_states: Tensor,
        added_cond_kwargs: dict[str, Tensor] | None = None,
        **residuals: Any,
    ) -> Any:
        """What the ``whole`` network says, or its last unit. ``residuals`` are those of a ControlNet, if any:
        the last unit's skip gets the first of them, the kept state knows the others."""
        told = {"encoder_hidden_states": encoder_hidden_states, "added_cond_kwargs": added_cond_kwargs}
        if self._now is None:
            return whole(sample, timestep, **told, **residuals)
        who, step = self._now
        session, schedule = self._cache.session, self._cache.schedule
        key = (who, session.branch, session.telling_source)
        kept = self._kept.get(key)
        # Whoever was not there at the last full step has one now.
        if schedule.is_full(step) or kept is None or kept[0] < schedule.last_full(step):
            self._keeping = key
            try:
                return whole(sample, timestep, **told, **residuals)
            finally:
                self._keeping = None
        if torch.is_grad_enabled() and sample.requires_grad:
            raise OperatorError("deepcache: no gradient flows through a kept state; leave deepcache out")
        steered = residuals.get("down_block_additional_residuals", (None,))[0]
        made = _shallow(self._cache.unet, kept[1], steered, sample, timestep, **told)
        return UNet2DConditionOutput(sample=made)


def _shallow(
    unet: UNet2DConditionModel,
    state: Tensor,
    steered: Tensor | None,
    sample: Tensor,
    timestep: Tensor | int,
    encoder_hidden_states: Tensor,
    added_cond_kwargs: dict[str, Tensor] | None,
) -> Tensor:
    """`UNet2DConditionModel.forward` without what lies between `conv_in` and the last decoder unit."""
    told = {"encoder_hidden_states": encoder_hidden_states, "added_cond_kwargs": added_cond_kwargs}
    embedding = unet.time_embedding(unet.get_time_embed(sample=sample, timestep=timestep))
    added = unet.get_aug_embed(emb=embedding, **told)
    if added is not None:
        embedding = embedding + added
    if unet.time_embed_act is not None:
        embedding = unet.time_embed_act(embedding)
    if unet.config.center_input_sample:
        sample = 2 * sample - 1.0
    block = unet.up_blocks[-1]
    skip = unet.conv_in(sample) if steered is None else unet.conv_in(sample) + steered
    x = torch.cat([state, skip], dim=1)
    x = block.resnets[-1](x, embedding)
    if getattr(block, "has_cross_attention", False):
        context = unet.process_encoder_hidden_states(**told)
        x = block.attentions[-1](x, encoder_hidden_states=context, return_dict=False)[0]
    if unet.conv_norm_out is not None:
        x = unet.conv_act(unet.conv_norm_out(x))
    return unet.conv_out(x)


def _last_unit(unet: UNet2DConditionModel) -> nn.Module:
    return unet.up_blocks[-1].resnets[-1]


def _restored(unet: UNet2DConditionModel, forward: Callable[..., Any] | None) -> None:
    """The instance's own ``forward``, or its class's where it had none."""
    if forward is None:
        del unet.forward
    else:
        unet.forward = forward
