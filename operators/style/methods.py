"""From the ``stylize`` mapping of a job to what runs: what frames read, their solver and its prior.

Methods are what frames take of a style; what keeps their content is `operators.inversion.content`. Three
methods bring a solver of their own: StyleID, which keeps the queries of the content, and the two that have no
picture to read and are told a prompt instead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from operators.adapters.image_prompt import ImagePrompt
from operators.attention.depth import appearance_layers
from operators.attention.session import SharedAttention
from operators.errors import OperatorError
from operators.inversion.content import Source, build_content
from operators.inversion.pinned import Change, unchanged
from operators.models import LatentModel
from operators.prompted import prompted, prompted_within
from operators.replay import MethodReading
from operators.solvers.base import LatentPrior, StepSolver
from operators.solvers.dreamsampler import DreamSamplerEdit
from operators.style.bank import BankRecipe, StyleBank
from operators.style.descriptor import ClipDescriptor, Descriptor, EncoderDescriptor
from operators.style.dressed import Dressed, itself
from operators.style.image_prompted import ImagePrompted, ImageTokens
from operators.style.optimal_control import Controlled, FullControl, ProximalControl, StyleTarget
from operators.style.readings import (
    ReplaceThenConcat,
    SharedWithStyle,
    StatisticsOnly,
    StyleInPlace,
    StyleMethod,
)
from operators.style.rival import NoiseAligned
from operators.style.schroedinger_bridge import latent_bridge
from operators.style.styleid import styleid
from operators.style.transport import LatentStatistics, latent_statistics, transport

Spec = Mapping[str, Any]

#: Where a bridge of strength 1 begins: at its very start it has no noise, hence no level.
_EARLIEST = 0.01


@dataclass(frozen=True)
class Styling:
    """One stylization on a model: ``reading`` is None where no picture is read."""

    solver: StepSolver
    prior: LatentPrior
    reading: MethodReading | None


@dataclass(frozen=True)
class Styles:
    """Builds stylings on one ``model``, whose calls report to ``session``. With ``image_prompt`` those that
    read a picture are told it in cross-attention too."""

    model: LatentModel
    session: SharedAttention
    image_prompt: ImagePrompt | None = None

    def recipe(self, spec: Spec, timesteps: tuple[int, ...]) -> BankRecipe:
        """What the bank of ``spec`` must hold besides trajectories and colours."""
        method, plain = spec["method"], BankRecipe(timesteps, image_prompt=self.image_prompt)
        if method["name"] == "rival":
            return replace(plain, noise_above=0)  # scenes may begin, and end it, elsewhere
        if method["name"] == "soc":
            describe = descriptor_of(method.get("descriptor"), self.model)
            return replace(plain, descriptor=describe, preview=self.model.vae_factor)
        return plain

    def styling(
        self,
        spec: Spec,
        timesteps: tuple[int, ...],
        bank: StyleBank | None,
        content: LatentStatistics | None,
        *,
        controlled: bool,
    ) -> Styling:
        """``spec`` is a whole ``stylize`` mapping; ``bank`` is None for methods that read no picture.

        ``content`` are the statistics of the scene's anchors (None: of the frames at hand); ``controlled``:
        the frames are anchors or knots, which ``soc`` moves. Raises OperatorError for what cannot be.
        """
        method = spec["method"]
        whole = prompted(spec, self.model, self.session)
        prior = prompted_within(spec, whole, timesteps, self.model, self.session)
        if method["name"] in _ALONE:
            return Styling(_ALONE[method["name"]](self, method, spec, timesteps, prior), prior, None)
        if bank is None:
            if method["name"] != "prompt":
                raise OperatorError(f"stylize: {method['name']} needs a reference")
            return Styling(self._keeping(spec, timesteps), prior, None)
        told = self._told(method, bank)
        prior = told(prior)
        if method["name"] == "rival":
            until = rival_until(method, timesteps)
            prior = NoiseAligned(prior, {t: moments for t, moments in bank.noise.items() if t > until})
        solver = Dressed(
            self._styleid(method, timesteps, bank)
            if method["name"] == "styleid"
            else self._keeping(spec, timesteps),
            _colours(bank, content, method["statistics"]),
            self._control(method, timesteps, bank, told)
            if controlled and method["name"] == "soc"
            else itself,
        )
        how = self._how(method, timesteps)
        return Styling(solver, prior, None if how is None else MethodReading(bank, how))

    def _keeping(self, spec: Spec, timesteps: tuple[int, ...]) -> StepSolver:
        return build_content(spec.get("content", {"name": "ddim"}), timesteps, self._source)

    def _styleid(self, method: Spec, timesteps: tuple[int, ...], bank: StyleBank) -> StepSolver:
        layers = appearance_layers(self.model.unet)
        source = self._source.untold
        return styleid(timesteps, source, self.session, layers, bank.start, queries=method["queries"])

    def _how(self, method: Spec, timesteps: tuple[int, ...]) -> StyleMethod | None:
        name = method["name"]
        if name == "style_aligned":
            return SharedWithStyle(method["shift"], method["adain"], method["norms"])
        if name == "adain":
            return StatisticsOnly(norms=method["norms"])
        if name == "styleid":
            return StyleInPlace(appearance_layers(self.model.unet), method["sharpness"])
        if name == "rival":
            return ReplaceThenConcat(rival_until(method, timesteps))
        if name == "soc":
            return SharedWithStyle() if method["shared"] else None
        raise OperatorError(f"stylize.method.name: {name!r} is unknown, or reads no reference")

    def _told(self, method: Spec, bank: StyleBank) -> Callable[[LatentPrior], LatentPrior]:
        """What tells a prior the picture of ``bank``; nothing without an adapter. Raises OperatorError where
        the method aggregates and there is none."""
        aggregated = method.get("aggregation", False)
        prompt, tokens = self.image_prompt, bank.image_tokens
        if prompt is None or tokens is None:
            if aggregated:
                raise OperatorError("stylize.method.aggregation: it needs the tokens of an IP-Adapter")
            return itself
        image = ImageTokens(tokens, self.session)
        return lambda prior: ImagePrompted(prior, prompt, image, aggregated=aggregated)

    def _control(
        self,
        method: Spec,
        timesteps: tuple[int, ...],
        bank: StyleBank,
        told: Callable[[LatentPrior], LatentPrior],
    ) -> Any:
        describe = descriptor_of(method.get("descriptor"), self.model)
        target = StyleTarget(bank.descriptor, describe, bank.preview)
        strength = {"iterations": method["iterations"], "rate": method["rate"]}
        if method["form"] == "full":
            # Around it too: parts of the network may run again when it is differentiated.
            return lambda prior: told(FullControl(prior, target=target, **strength))
        control = ProximalControl(target, anchor=method["anchor"], optimiser=method["optimiser"], **strength)
        return functools.partial(Controlled, control=control, timesteps=timesteps)

    @property
    def _source(self) -> Source:
        return Source(self.model, self.session)

    def _bridge(self, method: Spec, spec: Spec, timesteps: tuple[int, ...], prior: LatentPrior) -> StepSolver:
        source = self._source.beside_the_edit(method["caption"])
        begin = max(_EARLIEST, 1.0 - spec["strength"])
        rest = {"tau": method["tau"], "begin": begin, "weight": method["weight"]}
        return latent_bridge(prior, source, method["steps"], **rest)

    def _dreamsampler(
        self, method: Spec, spec: Spec, timesteps: tuple[int, ...], prior: LatentPrior
    ) -> StepSolver:
        return DreamSamplerEdit(timesteps, method["weight"])


_ALONE = {"schroedinger_bridge": Styles._bridge, "dreamsampler": Styles._dreamsampler}


def rival_until(method: Spec, timesteps: tuple[int, ...]) -> int:
    """The timestep above which RIVAL puts the reference in place of the frame's own keys: the share ``until``
    of the first one. Published is 600 of 1000; relative to where a job begins is our reading."""
    return round(method["until"] * timesteps[0])


@functools.lru_cache(maxsize=1)
def descriptor_of(folder: str | None, model: LatentModel) -> Descriptor:
    """CLIP or CSD from ``folder``, else statistics of the model's own encoder; loaded once. Raises
    ModelError where the folder holds no such weights."""
    if folder is None:
        return EncoderDescriptor(model)
    return ClipDescriptor.load(Path(folder), model.device)


def _colours(bank: StyleBank, content: LatentStatistics | None, weight: float) -> Change:
    """Clean latents towards the colours of the style, by one map per scene."""
    if weight == 0.0:
        return unchanged

    def recoloured(z0: Tensor) -> Tensor:
        return transport(z0, content or latent_statistics(z0), bank.statistics, weight)

    return recoloured
