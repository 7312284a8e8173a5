"""Which device this process computes on, and how."""

from __future__ import annotations

import torch


def device_here() -> str:
    """ "cuda" where there is a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def fix_numerics(device: str, threads: int) -> None:
    """Same bits on every actor: fixed ``threads``, deterministic kernels, no autotuning, no TF32."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=device.startswith("cuda"))
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
