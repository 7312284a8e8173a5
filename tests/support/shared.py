"""The shared data folder: golden vectors, evaluation pictures, clips."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from torch import Tensor


def shared_dir() -> Path:
    """Folder named by REELWEAVE_SHARED, else ``shared`` beside the repository; skips when absent."""
    default = Path(__file__).resolve().parents[3] / "shared"
    folder = Path(os.environ.get("REELWEAVE_SHARED", default))
    if not folder.is_dir():
        pytest.skip(f"shared data folder {folder} is absent; set REELWEAVE_SHARED to run this test")
    return folder


def golden(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and decoded metadata of one golden file; skips when the shared folder is absent."""
    with safe_open(shared_dir() / "golden" / f"{name}.safetensors", "pt") as handle:
        tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
        facts = {key: json.loads(value) for key, value in handle.metadata().items()}
    return tensors, facts
