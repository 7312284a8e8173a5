"""Checkpoints of a training run: written whole or not at all, bound to the run they belong to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from operators.errors import TrainingError


def save_checkpoint(path: Path, identity: str, state: dict[str, Any]) -> None:
    """Write beside ``path`` and rename: a kill leaves the previous checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        torch.save({"identity": identity, "state": state}, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def load_checkpoint(path: Path, identity: str) -> dict[str, Any]:
    """The state saved for ``identity``. Raises TrainingError for a damaged file or one of another run."""
    try:
        # weights_only: tensors and plain containers, no code.
        saved = torch.load(path, map_location="cpu", weights_only=True)
        found, state = saved["identity"], saved["state"]
    except Exception as error:
        # Damaged archives and pickles raise whatever their bytes lead to, in many lines.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainingError(
            f"{path} is no readable checkpoint ({reason}); delete it to start anew"
        ) from error
    if found != identity:
        raise TrainingError(
            f"{path} belongs to a run with other pictures, seed, device or start; "
            "give another --out or delete the file"
        )
    return state
