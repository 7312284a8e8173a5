"""The state that all self-attention layers of one network share: what the current call reads and keeps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from operators.attention.adain import pooled_moments
from operators.attention.harvest import WHAT_READING_NEEDS, Harvest, Keep, LayerHarvest
from operators.attention.injection import Injection
from operators.attention.layer_call import LayerCall
from operators.attention.merging import merge_into_first
from operators.attention.norms import group_sums, shared_group_norm
from operators.attention.reading import ALONE, Alignment, Reader, Reading, align, attend
from operators.attention.tokens import Chosen, TokenChoice, token_grid
from operators.errors import OperatorError


@dataclass(frozen=True)
class Record:
    """Where a call's harvest goes, and what is kept in it: ``keep``, the tokens of ``choice`` (None: all),
    and of those that are chosen among, the share ``merge`` of rows 2.. merged into the first row."""

    harvest: Harvest
    keep: Keep = WHAT_READING_NEEDS
    choice: TokenChoice | None = None
    merge: float = 0.0


@dataclass
class SharedAttention:
    """State shared by the processors of one UNet; made by `operators.attention.install.install`. ``branch``
    is set by the caller of the network ("cond" or "uncond"), since both branches keep banks of their own;
    ``latent_sides``, height and width, by the network when it is called. ``telling_source`` holds while the
    source of an edit is shown to the network beside it."""

    branch: str = "cond"
    latent_sides: tuple[int, int] = (0, 0)
    telling_source: bool = False
    _reading: Reading = ALONE
    _records: tuple[Record, ...] = ()

    @contextlib.contextmanager
    def under(self, reading: Reading, *records: Record) -> Iterator[None]:
        """Network calls inside attend to ``reading``; what they leave goes to ``records``, as constants."""
        before = self._reading, self._records
        self._reading, self._records = reading, records
        try:
            yield
        finally:
            self._reading, self._records = before

    def reading(
        self,
        readers: Sequence[Reader] = (),
        *,
        alignment: Alignment | None = None,
        joint: bool = False,
    ) -> contextlib.AbstractContextManager[None]:
        """`under` a reading of ``readers``, ``alignment`` and ``joint``."""
        return self.under(Reading(tuple(readers), alignment, joint=joint))

    def harvest(
        self,
        replay: Callable[[], object],
        reading: Reading = ALONE,
        *,
        keep: Keep = WHAT_READING_NEEDS,
        choice: TokenChoice | None = None,
    ) -> Harvest:
        """Run ``replay`` (network calls of reference frames) under ``reading`` and keep what each layer
        leaves, as `Record` says."""
        record = Record(Harvest(), keep, choice)
        before, self.telling_source = self.telling_source, True
        try:
            with torch.no_grad(), self.under(reading, record):
                replay()
        finally:
            self.telling_source = before
        return record.harvest

    def bound(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` as if called now, whenever it is: under this reading, in this branch, on a latent of
        this size, keeping nothing. For what runs parts of the network again later, as gradient checkpointing
        does."""
        reading, branch, sides = self._reading, self.branch, self.latent_sides

        def later(*args: Any, **kwargs: Any) -> Any:
            if self._reading is reading and self.branch == branch:
                return function(*args, **kwargs)
            before = self.branch, self.latent_sides
            self.branch, self.latent_sides = branch, sides
            try:
                with self.under(reading):
                    return function(*args, **kwargs)
            finally:
                self.branch, self.latent_sides = before

        return later

    def output(self, call: LayerCall) -> Tensor:
        """Output tokens [B, L, C] of one self-attention layer."""
        call = replace(call, branch=self.branch)
        reading = self._reading
        out = None if reading.replace is None else reading.replace(call)
        if out is not None:
            return out
        q, k, v = call.heads()
        if reading.injection is not None:
            q, k, v = reading.injection.heads(call.layer, q, k, v)
        keeps = any(record.keep.moments for record in self._records)
        q_own, k_own = (pooled_moments(q), pooled_moments(k)) if keeps else (None, None)
        if reading.alignment is not None:
            q, k = align(reading.alignment, call.key, q, k)
        others = self._chosen(reading.choice, call) if reading.joint else None
        out = call.output(attend(reading, call.key, q, k, v, others))
        for record in self._records:
            record.harvest.layers[call.key] = LayerHarvest(
                *_bounded(k.detach(), v.detach(), self._chosen(record.choice, call), record.merge),
                q_own if record.keep.moments else None,
                k_own if record.keep.moments else None,
                call.tokens.detach() if record.keep.inputs else None,
                out.detach() if record.keep.outputs else None,
                (k.detach(), v.detach()) if record.keep.whole else None,
                q.detach() if record.keep.queries else None,
            )
        return out

    def injecting(self, injection: Injection) -> contextlib.AbstractContextManager[None]:
        """Network calls inside read as they did, with features of a source injected. Raises OperatorError
        where something else stands in for the attention of layers."""
        if self._reading.replace is not None:
            raise OperatorError(
                "consistency.sharing: features of the source cannot be injected where outputs of other "
                "frames are carried over; use knots without merge, or a method that injects nothing"
            )
        return self.under(replace(self._reading, injection=injection), *self._records)

    def residual(self, name: str, out: Tensor) -> Tensor:
        """What the convolution ``name`` gives to its residual sum: ``out`` [B, C, h, w], or the source's."""
        if self._reading.injection is not None:
            out = self._reading.injection.residual(name, out)
        for record in self._records:
            if name in record.keep.residuals:
                record.harvest.residuals[self.branch, name] = out.detach()
        return out

    def _chosen(self, choice: TokenChoice | None, call: LayerCall) -> Chosen | None:
        if choice is None:
            return None
        return choice.of(call.layer, *token_grid(*self.latent_sides, call.tokens.shape[1]))

    def normalise(self, layer: str, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        """GroupNorm of one layer under the current reading; ``x`` [B, C, ...]."""
        key, alignment = (self.branch, layer), self._reading.alignment
        for record in self._records:
            if record.keep.norms:
                record.harvest.norms[key] = group_sums(norm, x.detach())
        if alignment is not None and alignment.norms:
            return shared_group_norm(norm, x, alignment.style.norms[key])
        return F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)


def _bounded(
    k: Tensor, v: Tensor, chosen: Chosen | None, merge: float
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The chosen tokens of ``k``, ``v`` [R, heads, L, d], merged where there are several rows, with their
    log counts [R', N] (None: nothing was cut)."""
    if chosen is None:
        return k, v, None
    index = chosen.index.to(k.device)
    k, v = k[:, :, index], v[:, :, index]
    log_count = chosen.log_count.to(k.device).expand(len(k), -1)
    return merge_into_first(k, v, log_count, merge) if merge and len(k) > 1 else (k, v, log_count)
