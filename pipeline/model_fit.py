"""Whether a job's model is of the kind that its ``enhance`` list needs: read from its files, not by torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.acceleration_fit import deepcache_model_misfit
from pipeline.adapter_fit import require_adapters_fit
from pipeline.errors import SpecError
from pipeline.model_files import model_folder
from pipeline.prompt_window import prompts_of, require_short
from pipeline.restore_fit import fitting, models_of
from pipeline.settings import JobSettings
from pipeline.style_fit import contents_for, sharing_misfit, style_model_misfit

#: Schedulers that say more than a table of noise levels; the same as in `operators.noise_schedule`.
FLOW = ("FlowMatchEulerDiscreteScheduler",)
CONSISTENCY = ("LCMScheduler", "TCDScheduler")
#: The only transformer that is loaded; the same as in `operators.mmdit`.
TRANSFORMER = "SD3Transformer2DModel"

_WORDS = {
    "diffusion": "diffusion model",
    "consistency": "few-step model (its scheduler an LCMScheduler or TCDScheduler)",
    "flow": "flow model (its scheduler a FlowMatchEulerDiscreteScheduler)",
}


def require_model_fit(settings: JobSettings) -> None:
    """Raises SpecError naming the field: a solver for models of another kind, with those that would work; a
    prompt for a model that reads none, or longer than it reads; a stylization that does not go with the
    model or with the sharing; adapters that do not fit it; a scheduler file that cannot be read."""
    if not settings.enhance:
        return
    root = model_folder(settings.model)
    if (root / "transformer").is_dir():
        _require_transformer_fit(settings, root / "transformer" / "config.json")
    words = require_adapters_fit(settings, root)
    kind, reads = model_kind(root), (root / "text_encoder").is_dir()
    lists = (settings.enhance, *(entry.enhance for entry in settings.scenes))
    for number, item in (pair for items in lists for pair in enumerate(items)):
        ((action, what),) = item.items()
        where = f"enhance.{number}.{action}"
        for field, text in prompts_of(what):
            if not reads:
                raise SpecError(
                    f"{where}.{field}: model {settings.model} has no text_encoder/ and reads no text; leave "
                    "it out or choose a model that has one",
                    field=f"{where}.{field}",
                )
            require_short(text, root, f"{where}.{field}", words)
        if action == "stylize":
            _require_style_fit(where, what, kind, settings)
        if action == "restore" and kind not in models_of(what["solver"]["name"]):
            solver = what["solver"]["name"]
            needs = " or ".join(_WORDS[wanted] for wanted in models_of(solver))
            works = ", ".join(fitting(what["degradation"], kind)) or "no solver"
            raise SpecError(
                f"enhance.{number}.restore.solver: {solver} needs a {needs}, and {settings.model} is a "
                f"{kind} model; with it this degradation goes with {works}",
                field=f"enhance.{number}.restore.solver",
            )


def _require_style_fit(where: str, stylize: dict[str, Any], kind: str, settings: JobSettings) -> None:
    member, why = sharing_misfit(stylize, settings.consistency)
    if why:
        raise SpecError(f"{where}.{member}: {why}", field=f"{where}.{member}")
    member, refused, needed = style_model_misfit(stylize, kind)
    if refused:
        needs = " or ".join(_WORDS[wanted] for wanted in needed)
        works = ", ".join(contents_for(stylize["method"]["name"], kind)) or "none"
        raise SpecError(
            f"{where}.{member}: {refused} needs a {needs}, and {settings.model} is a {kind} model; with it "
            f"{stylize['method']['name']} goes with content {works}",
            field=f"{where}.{member}",
        )


def _require_transformer_fit(settings: JobSettings, path: Path) -> None:
    """Of networks without a UNet those of SD3 are loaded, and they share no attention."""
    found = _read(path).get("_class_name")
    if found != TRANSFORMER:
        raise SpecError(
            f"model: {settings.model} has a {found}; of transformers only {TRANSFORMER} is loaded",
            field="model",
        )
    alone = "frames cannot share attention in a transformer"
    for number, item in enumerate(settings.enhance):
        ((action, what),) = item.items()
        refused = deepcache_model_misfit(what, has_unet=False)
        if refused:
            where = f"enhance.{number}.{action}.acceleration.deepcache"
            raise SpecError(f"{where}: {refused}", field=where)
        if "stylize" in item:
            raise SpecError(
                f"enhance.{number}.stylize: {alone}, so no frame can read a style; use a model with a UNet",
                field=f"enhance.{number}.stylize",
            )
    if settings.consistency.sharing != "none":
        raise SpecError(
            f"consistency.sharing: {alone}; set sharing: none, or use a model with a UNet",
            field="consistency.sharing",
        )


def largest_side(model: str) -> int | None:
    """Pixels that a picture of ``model`` may have along a side; None where any size will do. Raises SpecError
    (field ``model``)."""
    root = model_folder(model)
    if not (root / "transformer").is_dir():
        return None
    network, vae = _read(root / "transformer" / "config.json"), _read(root / "vae" / "config.json")
    try:
        cells = int(network["pos_embed_max_size"]) * int(network["patch_size"])
        return cells * 2 ** (len(vae["block_out_channels"]) - 1)
    except (KeyError, TypeError, ValueError) as error:
        raise SpecError(
            f"model: the configurations below {root} do not say how large its pictures may be ({error!r}); "
            "fetch the checkpoint again",
            field="model",
        ) from error


def model_kind(root: Path) -> str:
    """diffusion, consistency or flow, by the scheduler that a checkpoint names."""
    scheduler = _read(root / "scheduler" / "scheduler_config.json").get("_class_name")
    return "flow" if scheduler in FLOW else "consistency" if scheduler in CONSISTENCY else "diffusion"


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        raise SpecError(
            f"model: {path} is missing: the model is not in the diffusers layout", field="model"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise SpecError(
            f"model: {path} cannot be read ({type(error).__name__}); fetch the checkpoint again",
            field="model",
        ) from error
