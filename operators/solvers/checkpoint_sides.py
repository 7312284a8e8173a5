"""Which sides methods with weights of their own take, read from their files."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from operators.errors import OperatorError
from operators.solvers.fields import Spec


def checkpoint_multiple(solver: Spec) -> int:
    """In pixels, for the ``solver`` mapping of a job; 1 where it brings no weights.

    Only the configurations below its ``checkpoint`` are read, once per folder. Raises OperatorError naming
    the file.
    """
    folder, rule = solver.get("checkpoint"), _RULES.get(solver["name"])
    return rule(str(folder)) if folder and rule else 1


def bridge_multiple(block_out_channels: Sequence[int]) -> int:
    """Of the UNet of a bridge: it halves its picture once per block but the last."""
    return int(2 ** (len(block_out_channels) - 1))


def wan_multiple(temperal_downsample: Sequence[bool], patch_size: Sequence[int]) -> int:
    """Of a Wan video model: its autoencoder halves sides once per entry, its network takes patches.

    Arguments as their configurations name them, the first one's misspelling included.
    """
    return int(2 ** len(temperal_downsample) * patch_size[1])


@functools.lru_cache(maxsize=8)
def _of_bridge(folder: str) -> int:
    return bridge_multiple(_config(Path(folder), "block_out_channels"))


@functools.lru_cache(maxsize=8)
def _of_wan(folder: str) -> int:
    root = Path(folder)
    return wan_multiple(
        _config(root / "vae", "temperal_downsample"), _config(root / "transformer", "patch_size")
    )


def _config(folder: Path, field: str) -> Any:
    path = folder / "config.json"
    try:
        return json.loads(path.read_text())[field]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OperatorError(
            f"solver.checkpoint: {path} cannot be read ({error!r}); fetch the checkpoint again"
        ) from error


_RULES = {"cddb": _of_bridge, "lvtino": _of_wan}
