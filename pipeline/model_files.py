"""The identity of a model, for keys: a digest over its files, read without torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pipeline.errors import SpecError
from pipeline.keys import digest, file_sha256

_MODEL_FILES = {".json", ".safetensors", ".txt", ".model"}


def model_digest(model: str) -> str:
    """SHA-256 over names and contents of the checkpoint's files.

    ``model`` is ``"embedded"``, a diffusers directory or a hub id (which is fetched). Raises SpecError
    (field ``model``) when there is no such model.
    """
    root = _folder(model)
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix in _MODEL_FILES)
    if not (root / "unet" / "config.json").is_file():
        raise SpecError(
            f"model: {model} has no unet/config.json; it must be a directory in the diffusers layout",
            field="model",
        )
    return digest({path.relative_to(root).as_posix(): file_sha256(path) for path in files})


def _folder(model: str) -> Path:
    if model == "embedded":
        spec = importlib.util.find_spec("operators")
        if spec is None or spec.origin is None:
            raise SpecError("model: the embedded model is not installed; reinstall reelweave", field="model")
        return Path(spec.origin).parent / "embedded"
    path = Path(model)
    if path.is_dir():
        return path
    if path.exists() or model.startswith((".", "/", "~")):
        raise SpecError(f"model: {model} is not a directory", field="model")
    return _fetch(model)


def _fetch(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=[f"*{ending}" for ending in _MODEL_FILES]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise SpecError(
            f"model: {model} is neither a local directory nor a hub model that can be fetched "
            f"({type(error).__name__}); give a path in the diffusers layout",
            field="model",
        ) from error
