"""How a stylization keeps its content: from the ``content`` mapping of a job to a solver.

Every method starts from the frame's own latent, and goes one network step at a time under whatever the frame
reads of its style. Branches that tell the source share no attention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from operators.attention.alone import Alone
from operators.attention.depth import structure_layers, structure_residual
from operators.attention.session import SharedAttention
from operators.errors import OperatorError
from operators.inversion.bdia import Bdia
from operators.inversion.ddcm import Ddcm
from operators.inversion.edict import Edict
from operators.inversion.edit_friendly import EditFriendly
from operators.inversion.flow_edit import FlowEdit
from operators.inversion.pinned import PinnedSource, SourceFeatures, structure
from operators.inversion.rf_edit import RfEdit
from operators.inversion.uniform_attention import UniformMaps
from operators.models import BoundPrior, LatentModel
from operators.solvers.base import LatentPrior, StepSolver

Spec = Mapping[str, Any]

#: Nothing is taken from the source while sampling: inversion alone keeps it.
_NOTHING = SourceFeatures()


@dataclass(frozen=True)
class Source:
    """What tells the source: ``model``, whose calls report to ``session``, without guidance."""

    model: LatentModel
    session: SharedAttention

    @property
    def untold(self) -> BoundPrior:
        """With an empty prompt, for inversions, which happen before anything is shared."""
        return BoundPrior(self.model, listener=self.session)

    def beside_the_edit(self, caption: str) -> LatentPrior:
        """With the source's ``caption``, for calls while the edit shares attention."""
        return Alone(BoundPrior(self.model, caption, listener=self.session), self.session)

    def values(self, amount: float) -> SourceFeatures | None:
        """RF-Edit's values of the source for the share ``amount`` of all steps; None for nothing."""
        if amount == 0.0:
            return None
        layers = structure_layers(self.model.unet)
        return SourceFeatures(
            layers, queries=0.0, keys=0.0, values=1.0, attention_until=amount, residual_until=0.0
        )


Recipe = Callable[[Spec, tuple[int, ...], Source], StepSolver]


def _ddim(spec: Spec, timesteps: tuple[int, ...], source: Source) -> StepSolver:
    return PinnedSource(timesteps, source.untold, source.session, _NOTHING)


def _fixed_point(spec: Spec, timesteps: tuple[int, ...], source: Source) -> StepSolver:
    return PinnedSource(
        timesteps,
        source.untold,
        source.session,
        _NOTHING,
        iterations=spec["iterations"],
        accelerated=spec["accelerated"],
    )


def _uniform(spec: Spec, timesteps: tuple[int, ...], source: Source) -> StepSolver:
    inversion = UniformMaps(source.untold, source.model.unet)
    return PinnedSource(timesteps, inversion, source.session, _NOTHING, iterations=spec["iterations"])


def _pinned(spec: Spec, timesteps: tuple[int, ...], source: Source) -> StepSolver:
    unet = source.model.unet
    features = structure(structure_layers(unet), structure_residual(unet), spec["structure"])
    return PinnedSource(
        timesteps,
        source.untold,
        source.session,
        features,
        iterations=spec["iterations"],
        noise_share=spec["noise_share"],
    )


def _edit_friendly(spec: Spec, timesteps: tuple[int, ...], source: Source) -> StepSolver:
    told = source.beside_the_edit(spec["caption"])
    return EditFriendly(timesteps, told, eta=spec["eta"], chain=spec["chain"])


def _ddcm(spec: Spec, timesteps: tuple[int, ...], source: Source) -> StepSolver:
    return Ddcm(timesteps, source.beside_the_edit(spec["caption"]))


def _edict(spec: Spec, timesteps: tuple[int, ...], source: Source) -> StepSolver:
    return Edict(timesteps, source.untold, spec["mixing"])


def _bdia(spec: Spec, timesteps: tuple[int, ...], source: Source) -> StepSolver:
    return Bdia(timesteps, source.untold, spec["gamma"])


def _flow_edit(spec: Spec, timesteps: tuple[int, ...], source: Source) -> StepSolver:
    told = source.beside_the_edit(spec["caption"])
    return FlowEdit(timesteps, told, draws=spec["draws"], plain=spec["plain"])


def _rf_edit(spec: Spec, timesteps: tuple[int, ...], source: Source) -> StepSolver:
    return RfEdit(timesteps, source.untold, source.session, source.values(spec["structure"]))


CONTENTS: dict[str, Recipe] = {
    "ddim": _ddim,
    "fixed_point": _fixed_point,
    "uniform": _uniform,
    "pinned": _pinned,
    "edit_friendly": _edit_friendly,
    "ddcm": _ddcm,
    "edict": _edict,
    "bdia": _bdia,
    "flow_edit": _flow_edit,
    "rf_edit": _rf_edit,
}


def build_content(spec: Spec, timesteps: tuple[int, ...], source: Source) -> StepSolver:
    """The solver of ``spec``, whose ``name`` is a key of `CONTENTS` and whose other fields are those of its
    recipe, on descending ``timesteps``. Raises OperatorError for an unknown name or a number out of range."""
    name = spec["name"]
    if name not in CONTENTS:
        raise OperatorError(f"content.name: {name!r} is unknown; use one of {', '.join(CONTENTS)}")
    return CONTENTS[name](spec, timesteps, source)
