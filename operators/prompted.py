"""From ``prompt``, ``guidance``, ``rule`` and ``blend`` of a job to the prior that a stage samples with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from operators.acceleration.guidance_interval import GuidedWithin, guided_steps
from operators.attention.cross_contexts import BlendedPrompts, Editorial
from operators.attention.session import SharedAttention
from operators.models import BoundPrior, LatentModel
from operators.solvers.base import LatentPrior
from operators.solvers.guidance import BranchPrior, Guided


def prompted(spec: Mapping[str, Any], model: LatentModel, session: SharedAttention) -> LatentPrior:
    """``model`` told ``spec["prompt"]`` ("" where there is none), guided by ``guidance`` (1: not at all)
    under the rule cfg, or ``rule: cfgpp``. ``blend``: further prompts with weights, see
    `operators.attention.cross_contexts`. Raises ModelError for prompts that the model does not read, and
    OperatorError for weights that cancel the prompt."""
    prompt, weight = spec.get("prompt", ""), spec.get("guidance", 1.0)
    by_cfgpp = spec.get("rule") == "cfgpp"
    guidance = 1.0 if by_cfgpp else weight
    prior: BranchPrior = BoundPrior(model, prompt, guidance, session)
    if spec.get("blend"):
        editorials = [
            Editorial(model.condition(part["prompt"]).tokens, part["weight"]) for part in spec["blend"]
        ]
        prior = BlendedPrompts(model, prompt, guidance, editorials, session)
    return Guided(prior, weight, "cfgpp") if by_cfgpp else prior


def prompted_within(
    spec: Mapping[str, Any],
    prior: LatentPrior,
    timesteps: Sequence[int],
    model: LatentModel,
    session: SharedAttention,
) -> LatentPrior:
    """``prior``, that of `prompted`, guided only in the steps of ``spec["guidance_interval"]``, a stretch
    [first, last) of shares of all ``timesteps``; without the member in all."""
    interval = spec.get("guidance_interval")
    if interval is None:
        return prior
    told = prompted({**spec, "guidance": 1.0, "rule": "cfg"}, model, session)
    return GuidedWithin(prior, told, timesteps, guided_steps(interval, len(timesteps)))
