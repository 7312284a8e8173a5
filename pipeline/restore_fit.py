"""Which solver goes with which degradation and model: said from the job file, without loading a model.

The operators hold the truth; a test compares. Flags are those of `operators.degradations.base`; ``kernel``
marks blurs that are given by their kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Spec = Mapping[str, Any]

#: What a solver needs to hold of a degradation.
NEEDS: dict[str, tuple[str, ...]] = {
    "dpir": ("has_pinv", "has_prox"),
    "psld": ("differentiable", "has_pinv", "complete"),
    "ldps": ("differentiable", "complete"),
    "dps_nojac": ("differentiable", "complete"),
    "stsl": ("differentiable", "complete"),
    "resample": ("differentiable", "complete"),
    "reddiff": ("differentiable", "complete"),
    "blind_dps": ("kernel",),
    "treg": ("linear", "has_adjoint", "complete"),
    "dreamsampler": ("linear", "has_adjoint", "differentiable", "complete"),
    "diffpir": ("has_prox",),
    "ddnm": ("linear", "has_pinv", "complete"),
    "latino": ("has_prox",),
    "video_latent": ("linear", "has_prox"),
    "svi": ("linear", "has_adjoint", "complete"),
    "lvtino": ("has_prox",),
    "flowchef": ("differentiable", "complete"),
    "flowdps": ("linear", "has_pinv", "complete"),
    "cddb": ("linear", "has_pinv", "complete"),
}

DIFFUSIONS = ("diffusion", "consistency")
#: The kinds of model that a solver is for, where these are not `DIFFUSIONS`.
MODELS: dict[str, tuple[str, ...]] = {
    "latino": ("consistency",),
    "lvtino": ("consistency",),
    "flowchef": ("flow",),
    "flowdps": ("flow",),
    "dps_nojac": (*DIFFUSIONS, "flow"),
    "cddb": (*DIFFUSIONS, "flow"),
}
#: Solvers that need more than their name, weights of their own or ``sharing: none``: never suggested.
NOT_SUGGESTED = ("cddb", "svi", "lvtino")

#: Solvers that restore frames together where a degradation couples them.
CLIPS = ("dpir", "diffpir", "video_latent", "svi", "lvtino")

#: Kinds of checkpoint that solvers read, as `operators.solvers.checkpoints` names them, and what lies in one.
CHECKPOINTS = {
    "cddb": ("bridge", ("config.json",)),
    "lvtino": (
        "video_consistency",
        ("vae/config.json", "transformer/config.json", "condition.safetensors"),
    ),
}

_WORDS = {
    "framewise": "a degradation of every frame on its own",
    "linear": "a linear degradation",
    "has_pinv": "a degradation with a pseudo-inverse",
    "has_prox": "a degradation whose fit has a closed form",
    "complete": "a degradation all of whose pixels count",
    "kernel": "a blur given by its kernel (motion, disk or anisotropic)",
}
_NONLINEAR = ("jpeg", "clipping")
_KERNELS = ("motion", "disk", "anisotropic")


def lacking(kind: str, kernel: str | None) -> frozenset[str]:
    """The flags that do not hold of a ``degradation`` of this kind and, for blurs, kernel."""
    lacks = {"linear", "has_adjoint"} if kind in _NONLINEAR else set()
    if kind == "temporal_blur":
        lacks.add("framewise")
    if kind == "flicker":
        lacks = {"linear"}
    if kind == "deblur" and kernel == "lens":
        lacks = {"linear", "has_adjoint", "has_pinv", "has_prox"}
    if kind == "salt_and_pepper":
        lacks.add("complete")
    if kind != "deblur" or kernel not in _KERNELS:
        lacks.add("kernel")
    return frozenset(lacks)


def misfit(solver: str, degradation: Spec) -> str:
    """Why ``solver`` cannot restore ``degradation`` and what can; nothing when it can."""
    why = _obstacle(solver, degradation)
    return f"{why}; use one of {', '.join(fitting(degradation))}" if why else ""


def fitting(degradation: Spec, model: str = "diffusion") -> tuple[str, ...]:
    """The solvers that restore ``degradation`` with a model of this kind."""
    return tuple(
        name
        for name in NEEDS
        if name not in NOT_SUGGESTED and model in models_of(name) and not _obstacle(name, degradation)
    )


def models_of(solver: str) -> tuple[str, ...]:
    """The kinds of model that ``solver`` runs on."""
    return MODELS.get(solver, DIFFUSIONS)


def _obstacle(solver: str, degradation: Spec) -> str:
    kind, kernel = degradation["kind"], degradation.get("kernel")
    missing = [need for need in _needs(solver) if need in lacking(kind, kernel)]
    if missing:
        shown = f"{kind} with kernel {kernel}" if kind == "deblur" else kind
        return f"{solver} needs {_WORDS[missing[0]]}, and {shown} is none"
    if solver == "ddnm" and degradation.get("noise", 0.0) > 0.0 and "deblur" in _kinds(degradation):
        return "ddnm would amplify the noise, for the pseudo-inverse of a blur does"
    return ""


def _needs(solver: str) -> tuple[str, ...]:
    return NEEDS[solver] if solver in CLIPS else (*NEEDS[solver], "framewise")


def _kinds(degradation: Spec) -> Iterator[str]:
    yield degradation["kind"]
    for part in degradation.get("parts", ()):
        yield from _kinds(part)
