"""Parts of a checkpoint in the diffusers layout: safetensors and JSON only, and no code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from operators.errors import ModelError


def read_json(path: Path) -> dict[str, Any]:
    """Raises ModelError naming the file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ModelError(f"{path} is missing: the model is not in the diffusers layout") from None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def load_part(kind: Any, root: Path, folder: str, dtype: torch.dtype) -> Any:
    """The model of class ``kind`` below ``root / folder``. Raises ModelError naming the folder."""
    files = sorted((root / folder).glob("*.safetensors"))
    if not files:
        raise ModelError(
            f"{root / folder} has no safetensors weights; convert the checkpoint "
            "(pickle files are never loaded)"
        )
    only_variant = all(".fp16." in file.name for file in files)
    try:
        return kind.from_pretrained(
            root,
            subfolder=folder,
            torch_dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,
            variant="fp16" if only_variant else None,
        )
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{root / folder} cannot be loaded: {error}") from error
