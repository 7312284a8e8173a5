"""Which ways of stylizing go together: said from the job file, without loading a model.

A method says what frames take of a style, ``content`` what keeps them what they show. The operators hold the
truth; a test compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.settings import ConsistencySettings
from pipeline.sharing_policies import POLICIES

Spec = Mapping[str, Any]

#: Methods that read pictures, methods that are told a prompt instead.
OF_PICTURES = ("style_aligned", "adain", "styleid", "rival", "soc")
OF_PROMPTS = ("prompt", "dreamsampler", "schroedinger_bridge")

ANY, DIFFUSION = ("diffusion", "consistency", "flow"), ("diffusion",)
#: The ways to keep content, and the kinds of model that each is for. ``flow_edit`` and ``rf_edit`` follow
#: velocities; few-step models cannot be inverted well, and ``ddcm`` is made for them.
CONTENTS: dict[str, tuple[str, ...]] = {
    "ddim": ANY,
    "fixed_point": ("diffusion", "flow"),
    "uniform": ("diffusion", "flow"),
    "pinned": ("diffusion", "flow"),
    "edit_friendly": DIFFUSION,
    "edict": ("diffusion", "flow"),
    "bdia": ("diffusion", "flow"),
    "ddcm": ("consistency",),
    "flow_edit": ("flow",),
    "rf_edit": ("flow",),
}
#: Contents whose steps use the clean estimate beside the noise: others would not see it moved.
_ESTIMATE = ("ddim", "fixed_point", "uniform", "pinned", "edit_friendly")
GOES_WITH: dict[str, tuple[str, ...]] = {
    "style_aligned": tuple(CONTENTS),
    "adain": tuple(CONTENTS),
    "prompt": tuple(CONTENTS),
    "rival": ("ddim", "fixed_point", "uniform", "pinned"),
    "soc": _ESTIMATE,
    # These keep the content themselves.
    "styleid": (),
    "dreamsampler": (),
    "schroedinger_bridge": (),
}
#: Kinds of model for methods that keep the content themselves.
_MODELS = {"styleid": ("diffusion", "flow"), "dreamsampler": DIFFUSION, "schroedinger_bridge": DIFFUSION}
#: Contents whose exactness half-precision networks take away.
EXACT = ("edict", "bdia")
#: Contents that draw noise at every step.
DRAWING = ("edit_friendly", "ddcm", "flow_edit")

#: Policies that put outputs of other frames in place of a frame's own, where nothing can be injected.
_REPLACING = ("propagate", "correspondence")
#: Policies that say themselves whether a frame reads its own keys.
_OWN_DECIDED = ("first_frame", "sparse_causal", "correspondence")


def content_of(stylize: Spec) -> Spec | None:
    """How a stylization keeps its content; None where the method does."""
    if not GOES_WITH[stylize["method"]["name"]]:
        return None
    found: Spec = stylize.get("content") or {"name": "ddim"}
    return found


def style_misfit(stylize: Spec) -> tuple[str, str]:
    """The member of ``stylize`` that does not go with the others, and why, with what would; ("", "") when all
    do."""
    method = stylize["method"]["name"]
    works, given = GOES_WITH[method], stylize.get("content")
    if method in OF_PICTURES and not stylize.get("reference"):
        return "reference", (
            f"is required by {method}: give a picture, or stylize by a prompt alone with method "
            f"{', '.join(OF_PROMPTS)}"
        )
    if method in OF_PROMPTS and stylize.get("reference"):
        return "reference", f"{method} reads no picture; leave it out, or use {', '.join(OF_PICTURES)}"
    if method in OF_PROMPTS and not stylize.get("prompt"):
        return "prompt", f"is required by {method}: write what the result shows, and its style"
    if given and not works:
        return "content", f"{method} keeps the content itself; leave content out"
    if given and given["name"] not in works:
        return "content", f"{given['name']} does not go with {method}; use one of {', '.join(works)}"
    content = content_of(stylize)
    if stylize.get("rule") == "cfgpp" and (content is None or content["name"] not in _ESTIMATE):
        shown = method if content is None else content["name"]
        return "rule", f"cfgpp does not go with {shown}; use rule cfg, or content {', '.join(_ESTIMATE)}"
    return "", ""


def sharing_misfit(stylize: Spec, how: ConsistencySettings) -> tuple[str, str]:
    """As `style_misfit`, for what frames read of each other."""
    name, content = stylize["method"]["name"], content_of(stylize)
    field = "method" if content is None else "content"
    if _injects(stylize):
        told = name if content is None else content["name"]
        instead = "" if content is None else ", or structure: 0"
        if how.sharing in _REPLACING:
            works = ", ".join(sharing for sharing in POLICIES if sharing not in _REPLACING)
            return field, (
                f"{told} injects features of the source, and sharing {how.sharing} puts those of other "
                f"frames there; use sharing {works}{instead}"
            )
        if how.merge:
            return field, f"{told} injects features of the source, which merge takes; set merge: 0{instead}"
    if name in ("styleid", "rival") and how.sharing in _OWN_DECIDED:
        works = ", ".join(sharing for sharing in POLICIES if sharing not in _OWN_DECIDED)
        return "method", (
            f"{name} puts the reference in place of a frame's own keys, which sharing {how.sharing} decides "
            f"itself; use sharing {works}"
        )
    if name == "soc" and POLICIES[how.sharing].anchors == "none":
        works = ", ".join(facts.name for facts in POLICIES.values() if facts.anchors != "none")
        return "method", (
            f"soc moves anchors and knots, which frames read, and with sharing {how.sharing} there are none; "
            f"use sharing {works}"
        )
    blind = name == "dreamsampler" or (content is not None and content["name"] in ("ddcm", "edict"))
    if how.fusion and blind:
        told = name if content is None else content["name"]
        return field, f"{told} steps without the estimates that fusion pulls; set consistency.fusion: 0"
    return "", ""


def style_model_misfit(stylize: Spec, kind: str) -> tuple[str, str, tuple[str, ...]]:
    """As `style_misfit`, for a model of ``kind``: field, what is refused, and the kinds that it needs."""
    method, content = stylize["method"]["name"], content_of(stylize)
    told = method if content is None else content["name"]
    needs = _MODELS[method] if content is None else CONTENTS[content["name"]]
    return ("", "", ()) if kind in needs else ("method" if content is None else "content", told, needs)


def contents_for(method: str, kind: str) -> tuple[str, ...]:
    """The ways to keep content that go with ``method`` and a model of ``kind``."""
    return tuple(name for name in GOES_WITH[method] if kind in CONTENTS[name])


def _injects(stylize: Spec) -> bool:
    content = content_of(stylize)
    if content is None:
        return bool(stylize["method"]["name"] == "styleid")
    return content["name"] in ("pinned", "rf_edit") and content["structure"] > 0.0
