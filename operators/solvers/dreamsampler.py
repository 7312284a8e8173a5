"""DreamSampler (Kim, Park and Ye 2024, "DreamSampler: Unifying Diffusion Sampling and Score Distillation for
Image Manipulation", arXiv 2403.11415): distillation with a prompt between the steps of a sampler."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from operators.degradations.base import ForwardOperator
from operators.degradations.inpainting import Inpainting
from operators.degradations.video_inpainting import VideoInpainting
from operators.solvers.base import LatentPrior, State
from operators.solvers.guidance import BranchPrior, cfgpp
from operators.solvers.guided_inversion import guided_invert
from operators.solvers.levels import level, next_level
from operators.solvers.reencode import blended
from operators.solvers.step_rules import recombine, renoise
from operators.solvers.treg import TReg


@dataclass(frozen=True)
class DreamSamplerEdit:
    """Editing: DDIM inversion without prompt, then z0 distilled towards the prompt by ab_t ``weight`` and
    renoised with the unconditional eps. ``prior`` must show its branches."""

    timesteps: tuple[int, ...]
    weight: float = 0.2

    def start(self, y: Tensor, noise: Tensor, prior: BranchPrior) -> State:
        return State(z=guided_invert(prior.encode(y), self.timesteps, prior, 0.0)[-1], y=y)

    def step(self, i: int, state: State, prior: BranchPrior) -> State:
        t = self.timesteps[i]
        prediction = cfgpp(prior.branches(state.z, t), self.weight * level(prior, t).ab)
        there = next_level(prior, self.timesteps, i)
        return replace(state, z=recombine(prediction.z0, prediction.eps, there), z0=prediction.z0)

    def finish(self, state: State, prior: LatentPrior) -> Tensor:
        """The last clean estimate, decoded."""
        return prior.decode(state.z0)


@dataclass(frozen=True)
class DreamSampler(TReg):
    """Restoration of what is missing: the unconditional estimate is fitted to the measurement, and inside the
    holes it is distilled towards the prompt; other steps are unconditional DPS.

    Inside a hole M: z0 <- (1 - ab') z0 + ab' z0_prompt, as published for inpainting. Operators without a mask
    have no hole, and then the prompt is not used: the published distillation outside of holes is an edit
    (`DreamSamplerEdit`), which has no measurement to keep. Paper: 10 conjugate gradient iterations of weight
    1e-4, every third step.
    """

    dps: bool = True

    def step(self, i: int, state: State, prior: BranchPrior) -> State:
        if i % self.every or i >= self.until:
            return super().step(i, state, prior)
        there = next_level(prior, self.timesteps, i)
        branches = prior.branches(state.z, self.timesteps[i])
        plain, told = branches.uncond, branches.cond
        z0 = blended(plain.z0, self.fit.latent(plain.z0, state.y, prior), there)
        hole = latent_hole(self.fit.operator, z0)
        if hole is not None:
            z0 = z0 + hole * there.ab * (told.z0 - z0)
        fresh = state.normal(i, "renoise")
        return replace(state, z=renoise(z0, plain.eps, fresh, there, there.ab.sqrt()), z0=z0)


def latent_hole(operator: ForwardOperator, z: Tensor) -> Tensor | None:
    """Cells of ``z`` of which more than half is missing, [1, 1, h, w] or, where masks differ between frames,
    [B, 1, h, w]; None where nothing is."""
    if isinstance(operator, Inpainting):
        keep = operator.mask[None]
    elif isinstance(operator, VideoInpainting):
        keep = operator.masks
    else:
        return None
    if bool(keep.all()):
        return None
    missing = 1.0 - torch.as_tensor(keep).to(z)[:, None]
    return (F.adaptive_avg_pool2d(missing, z.shape[-2:]) > 0.5).to(z)
