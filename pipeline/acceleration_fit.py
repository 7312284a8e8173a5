"""What an item of ``enhance`` may leave out: said from the job file, without loading a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.style_fit import content_of

Spec = Mapping[str, Any]

#: Solvers whose steps follow each other closely and are not differentiated through the network.
CACHED_SOLVERS = ("diffpir", "ddnm", "treg", "reddiff", "dps_nojac", "latino", "video_latent", "svi")
#: Stylizations by methods and contents that show the network each frame once per step, and at most its
#: source beside it.
CACHED_METHODS = ("style_aligned", "adain", "rival", "soc", "prompt")
CACHED_CONTENTS = ("ddim", "fixed_point", "uniform", "pinned")

_WHY = {
    "dpir": "dpir shows the network another mirror image at each of its few steps",
    "flowchef": "flowchef follows a flow",
    "flowdps": "flowdps follows a flow",
    "lvtino": "lvtino goes between two models",
    "cddb": "cddb has weights of its own",
}


def deepcache_misfit(item: Spec) -> str:
    """Why a ``restore`` or ``stylize`` mapping cannot be cached, and what can; nothing when it can, or when
    it does not ask for it."""
    if "deepcache" not in item.get("acceleration", {}):
        return ""
    if "solver" in item:
        name = item["solver"]["name"]
        if name in CACHED_SOLVERS:
            return ""
        why = _WHY.get(name, f"{name} differentiates through the network, and nothing flows through a cache")
        return f"{why}; leave deepcache out, or use solver {', '.join(CACHED_SOLVERS)}"
    method, content = item["method"], content_of(item)
    if method["name"] not in CACHED_METHODS:
        return (
            f"{method['name']} steps in its own way; leave deepcache out, or use {', '.join(CACHED_METHODS)}"
        )
    if method["name"] == "soc" and method["form"] == "full":
        return "soc of form full differentiates through the network; leave deepcache out, or take proximal"
    if content is not None and content["name"] not in CACHED_CONTENTS:
        works = ", ".join(CACHED_CONTENTS)
        return f"content {content['name']} asks the network several times a step; use content {works}"
    return ""


def interval_misfit(item: Spec) -> str:
    """Why ``guidance_interval`` says nothing, and what to write; nothing when it is fine or absent."""
    if "guidance_interval" not in item:
        return ""
    first, last = item["guidance_interval"]
    if first >= last:
        return f"[{first}, {last}] is no stretch of the way; write [0, 0.6] for the first six tenths"
    if item.get("rule") != "cfgpp" and item.get("guidance") in (None, 1.0):
        return "without guidance there is nothing to confine; set guidance above 1, or leave it out"
    if item.get("method", {}).get("name") in ("dreamsampler", "schroedinger_bridge"):
        return f"{item['method']['name']} weighs its prompt by itself; leave it out, or use method prompt"
    return ""


def deepcache_model_misfit(item: Spec, has_unet: bool) -> str:
    """Why a model cannot be cached; nothing when it can, or when the item does not ask for it."""
    if has_unet or "deepcache" not in item.get("acceleration", {}):
        return ""
    return "a transformer has no decoder units to run alone; leave deepcache out, or use a model with a UNet"
