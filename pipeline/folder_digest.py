"""The identity of a folder of weights: names and contents of the files that loading reads."""

from __future__ import annotations

from pathlib import Path

from pipeline.keys import digest, file_sha256

#: Endings of the files of a checkpoint.
MODEL_FILES = {".json", ".safetensors", ".txt", ".model"}


def folder_digest(root: Path) -> str:
    """SHA-256 over the files below ``root`` whose names end as those of checkpoints do."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix in MODEL_FILES)
    return digest({path.relative_to(root).as_posix(): file_sha256(path) for path in files})
