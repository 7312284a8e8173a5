"""The state that all self-attention layers of one network share: what the current call reads and keeps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from operators.attention.adain import adain, pooled_moments
from operators.attention.harvest import WHAT_READING_NEEDS, Harvest, Keep, LayerHarvest
from operators.attention.layer_call import LayerCall
from operators.attention.norms import group_sums, shared_group_norm
from operators.attention.reading import ALONE, Alignment, Reader, Reading, attend


@dataclass(frozen=True)
class Record:
    """Where a call's harvest goes, and what is kept in it."""

    harvest: Harvest
    keep: Keep


@dataclass
class SharedAttention:
    """State shared by the processors of one UNet; made by `operators.attention.install.install`. ``branch``
    is set by the caller of the network ("cond" or "uncond"), since both branches keep banks of their own."""

    branch: str = "cond"
    _reading: Reading = ALONE
    _record: Record | None = None

    @contextlib.contextmanager
    def under(self, reading: Reading, record: Record | None = None) -> Iterator[None]:
        """Network calls inside attend to ``reading``; what they leave goes to ``record``, as constants."""
        before = self._reading, self._record
        self._reading, self._record = reading, record
        try:
            yield
        finally:
            self._reading, self._record = before

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
        self, replay: Callable[[], object], reading: Reading = ALONE, *, keep: Keep = WHAT_READING_NEEDS
    ) -> Harvest:
        """Run ``replay`` (network calls of reference frames) under ``reading`` and keep what each layer
        leaves."""
        record = Record(Harvest(), keep)
        with torch.no_grad(), self.under(reading, record):
            replay()
        return record.harvest

    def bound(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` as if called now, whenever it is: under this reading and in this branch, keeping
        nothing. For what runs parts of the network again later, as gradient checkpointing does."""
        reading, branch = self._reading, self.branch

        def later(*args: Any, **kwargs: Any) -> Any:
            if self._reading is reading and self.branch == branch:
                return function(*args, **kwargs)
            before, self.branch = self.branch, branch
            try:
                with self.under(reading):
                    return function(*args, **kwargs)
            finally:
                self.branch = before

        return later

    def output(self, call: LayerCall) -> Tensor:
        """Output tokens [B, L, C] of one self-attention layer."""
        call = replace(call, branch=self.branch)
        reading, record = self._reading, self._record
        out = None if reading.replace is None else reading.replace(call)
        if out is not None:
            return out
        q, k, v = call.heads()
        alignment = reading.alignment
        needs_own = alignment is not None and alignment.content is None
        keeps = record is not None and record.keep.moments
        q_own, k_own = (pooled_moments(q), pooled_moments(k)) if needs_own or keeps else (None, None)
        if alignment is not None:
            style = alignment.style.layers[call.key]
            content = alignment.content.layers[call.key] if alignment.content else None
            q = adain(q, content.q_moments if content else q_own, style.q_moments)
            k = adain(k, content.k_moments if content else k_own, style.k_moments)
        out = call.output(attend(reading, call.key, q, k, v))
        if record is not None:
            record.harvest.layers[call.key] = LayerHarvest(
                k.detach(),
                v.detach(),
                q_own if keeps else None,
                k_own if keeps else None,
                call.tokens.detach() if record.keep.inputs else None,
                out.detach() if record.keep.outputs else None,
            )
        return out

    def normalise(self, layer: str, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        """GroupNorm of one layer under the current reading; ``x`` [B, C, ...]."""
        key, record, alignment = (self.branch, layer), self._record, self._reading.alignment
        if record is not None and record.keep.norms:
            record.harvest.norms[key] = group_sums(norm, x.detach())
        if alignment is not None and alignment.norms:
            return shared_group_norm(norm, x, alignment.style.norms[key])
        return F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
