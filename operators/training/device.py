"""Where and in which precision training computes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """``device`` ("cpu", "cuda"); ``bf16``: matrix work in bfloat16, parameters and losses in float32."""

    device: str
    bf16: bool

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """The context of forward passes."""
        return torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.bf16)
