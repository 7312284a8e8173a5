"""The identity of a job's weights, for keys: digests over their files, read without torch."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from pipeline.adapter_files import adapter_facts
from pipeline.errors import SpecError
from pipeline.folder_digest import MODEL_FILES, folder_digest
from pipeline.keys import digest
from pipeline.restore_fit import CHECKPOINTS
from pipeline.settings import JobSettings


def weights_digest(settings: JobSettings) -> str:
    """SHA-256 of all weights that ``settings.enhance`` uses: the model's with its adapters, and those of
    solvers that bring their own; "" where nothing is enhanced. Raises SpecError naming the field."""
    if not settings.enhance:
        return ""
    of_model = model_digest(settings.model)
    own: dict[str, Any] = {"adapters": adapter_facts(settings)} if settings.adapters else {}
    for number, item in enumerate(settings.enhance):
        solver = item.get("restore", {}).get("solver", {})
        descriptor = item.get("stylize", {}).get("method", {}).get("descriptor")
        if "checkpoint" in solver:
            own[str(number)] = _checkpoint_digest(number, solver["name"], solver["checkpoint"])
        if descriptor is not None:
            own[f"{number}/descriptor"] = _descriptor_digest(number, descriptor)
    return digest([of_model, own]) if own else of_model


def model_digest(model: str) -> str:
    """SHA-256 over names and contents of the checkpoint's files.

    ``model`` is ``"embedded"``, a diffusers directory or a hub id (which is fetched). Raises SpecError
    (field ``model``) when there is no such model.
    """
    root = model_folder(model)
    if not any((root / part / "config.json").is_file() for part in ("unet", "transformer")):
        raise SpecError(
            f"model: {model} has no unet/config.json or transformer/config.json; it must be a directory in "
            "the diffusers layout",
            field="model",
        )
    return folder_digest(root)


def model_folder(model: str) -> Path:
    """Where the files of ``model`` lie on this machine; see `model_digest`."""
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
        return Path(snapshot_download(model, allow_patterns=[f"*{ending}" for ending in MODEL_FILES]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise SpecError(
            f"model: {model} is neither a local directory nor a hub model that can be fetched "
            f"({type(error).__name__}); give a path in the diffusers layout",
            field="model",
        ) from error


def _checkpoint_digest(number: int, solver: str, folder: str) -> str:
    """Of the checkpoint of one stage, which must be of the kind that its ``solver`` reads."""
    field, path = f"enhance.{number}.restore.solver.checkpoint", Path(folder) / "checkpoint.json"
    wanted, files = CHECKPOINTS[solver]
    fix = f"{solver} reads a folder with checkpoint.json of kind {wanted}, {', '.join(files)} and safetensors"
    try:
        kind = json.loads(path.read_text())["kind"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecError(
            f"{field}: {path} cannot be read ({type(error).__name__}); {fix}", field=field
        ) from error
    if kind != wanted:
        raise SpecError(f"{field}: {path} holds a {kind} model; {fix}", field=field)
    missing = [name for name in files if not (Path(folder) / name).is_file()]
    if missing:
        raise SpecError(f"{field}: {Path(folder) / missing[0]} is missing; {fix}", field=field)
    return folder_digest(Path(folder))


def _descriptor_digest(number: int, folder: str) -> str:
    """Of the weights that describe styles, which must be a CLIP vision tower in safetensors."""
    field, root = f"enhance.{number}.stylize.method.descriptor", Path(folder)
    weights = [path for path in root.glob("*.safetensors") if path.name != "csd.safetensors"]
    if not (root / "config.json").is_file() or not weights:
        raise SpecError(
            f"{field}: {folder} holds no config.json with safetensors weights; give the folder of a CLIP "
            "vision tower as transformers writes it (csd.safetensors beside it makes it CSD), or leave it "
            "out: the model's own encoder then describes the style",
            field=field,
        )
    return folder_digest(root)
