"""The identity of what a job adds to its model, for keys: digests over its files, read without torch."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.errors import SpecError
from pipeline.folder_digest import folder_digest
from pipeline.image_prompt_fit import ENCODER, WEIGHTS
from pipeline.keys import file_sha256
from pipeline.settings import JobSettings

#: The members of an adapter that name a file, or a folder of them.
FILES = ("lora", "textual_inversion", "controlnet", "ip_adapter")
#: Those that name a folder.
FOLDERS = ("controlnet", "ip_adapter")


def adapter_facts(settings: JobSettings) -> list[dict[str, Any]]:
    """What a result depends on of each of ``settings.adapters``: the file by digest, the other members, and
    for LoRA the version of what merges it. Raises SpecError naming the field."""
    return [_facts(number, adapter) for number, adapter in enumerate(settings.adapters)]


def adapter_file(number: int, adapter: Mapping[str, Any]) -> tuple[str, Path]:
    """Field and place of the file or folder of an adapter. Raises SpecError where there is none, or it is
    neither a safetensors file by its name nor a folder with such files."""
    kind = next(name for name in FILES if name in adapter)
    field, path = f"adapters.{number}.{kind}", Path(adapter[kind])
    if kind == "controlnet":
        _require_folder(field, path)
    elif kind == "ip_adapter":
        _require_image_prompt(field, path)
    elif path.suffix != ".safetensors":
        raise SpecError(
            f"{field}: {path} is no safetensors file; pickle files are never loaded: convert it, or fetch "
            "its safetensors version",
            field=field,
        )
    elif not path.is_file():
        raise SpecError(
            f"{field}: there is no file {path} on this machine; give the path of a safetensors file",
            field=field,
        )
    return field, path


def _facts(number: int, adapter: Mapping[str, Any]) -> dict[str, Any]:
    field, path = adapter_file(number, adapter)
    kind = field.rpartition(".")[2]
    sha256 = folder_digest(path) if kind in FOLDERS else file_sha256(path)
    facts: dict[str, Any] = {**adapter, kind: sha256}
    if kind == "lora":
        facts["peft"] = _peft_version(field)
    return facts


def _require_folder(field: str, path: Path) -> None:
    if not (path / "config.json").is_file() or not list(path.glob("*.safetensors")):
        raise SpecError(
            f"{field}: {path} holds no config.json with safetensors weights; give the folder of a ControlNet "
            "as diffusers writes it",
            field=field,
        )


def _require_image_prompt(field: str, path: Path) -> None:
    encoder = path / ENCODER
    whole = (encoder / "config.json").is_file() and any(encoder.glob("*.safetensors"))
    if not whole or not (path / WEIGHTS).is_file():
        raise SpecError(
            f"{field}: {path} holds no {WEIGHTS} beside {ENCODER}/ with config.json and safetensors weights; "
            "put the adapter and the CLIP vision tower that it was trained with there, under these names",
            field=field,
        )


def _peft_version(field: str) -> str:
    if find_spec("peft") is None:
        raise SpecError(
            f"{field}: LoRA is merged by the package peft, which is not installed; pip install "
            "'reelweave[lora]' on every machine of the cluster",
            field=field,
        )
    return importlib.metadata.version("peft")
