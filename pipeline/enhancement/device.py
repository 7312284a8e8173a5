"""Which device this process computes on."""

from __future__ import annotations

import torch


def device_here() -> str:
    """ "cuda" where there is a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"
