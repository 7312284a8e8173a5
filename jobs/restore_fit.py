"""Which solver goes with which degradation: said when a job file is read, without loading a model.

The operators hold the truth; a test compares. Flags are those of `operators.degradations.base`; ``kernel``
marks blurs that are given by their kernel.
"""

from __future__ import annotations

#: What a solver needs to hold of a degradation.
NEEDS: dict[str, tuple[str, ...]] = {
    "dpir": ("linear", "has_pinv", "has_prox"),
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
    "flowchef": ("differentiable", "complete"),
    "flowdps": ("linear", "has_pinv", "complete"),
}
#: Solvers for models of another kind than a diffusion: never suggested.
OTHER_MODELS = ("latino", "flowchef", "flowdps")

#: Solvers that restore frames together where a degradation couples them.
CLIPS = ("dpir", "diffpir", "video_latent")

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


def misfit(solver: str, kind: str, kernel: str | None) -> str:
    """Why ``solver`` cannot restore such a degradation and what can; nothing when it can."""
    lacks = lacking(kind, kernel)
    missing = [need for need in _needs(solver) if need in lacks]
    if not missing:
        return ""
    works = [name for name in NEEDS if name not in OTHER_MODELS and not lacks.intersection(_needs(name))]
    degradation = f"{kind} with kernel {kernel}" if kind == "deblur" else kind
    return f"{solver} needs {_WORDS[missing[0]]}, and {degradation} is none; use one of {', '.join(works)}"


def _needs(solver: str) -> tuple[str, ...]:
    return NEEDS[solver] if solver in CLIPS else (*NEEDS[solver], "framewise")
