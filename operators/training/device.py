"""Where and in which precision training computes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
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

    @contextlib.contextmanager
    def deterministic(self) -> Iterator[None]:
        """On CUDA, kernels whose sums have one order, where there are such; CPU kernels have one anyway for
        a fixed number of threads. The process's settings come back afterwards."""
        before = torch.are_deterministic_algorithms_enabled()
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        if self.device.startswith("cuda"):
            torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warn_only)
