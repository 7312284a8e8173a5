"""Every style method as a stage of a job: what a frame becomes does not depend on who is beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from operators.attention.depth import appearance_layers, structure_layers, structure_residual
from operators.attention.install import install
from operators.attention.policies.scene import Independent
from operators.attention.session import SharedAttention
from operators.inversion.pinned import PinnedSource, structure
from operators.models import BoundPrior, LatentModel
from operators.replay import MethodReading, Stage, run_stage
from operators.solvers.base import StepSolver, restore
from operators.style.latent_adain import channel_moments
from operators.style.readings import ReplaceThenConcat, SharedWithStyle, StatisticsOnly, StyleInPlace
from operators.style.rival import NoiseAligned, reference_noise
from operators.style.styleid import styleid
from tests.operators.test_replay import TIMESTEPS, clip, picture, render, stage_of, unit
from tests.support.tiny_models import save_tiny_sd

METHODS = ("plug and play", "statistics", "styleid", "rival")


@pytest.fixture(scope="module")
def model() -> LatentModel:
    return LatentModel.from_pretrained("embedded")


def stage_by(name: str, model: LatentModel, session: SharedAttention) -> Stage:
    plain = stage_of((model, session))
    source, reference = BoundPrior(model, listener=session), plain.style.reference
    kept = structure(structure_layers(model.unet), structure_residual(model.unet), 0.5)
    pinned: StepSolver = PinnedSource(TIMESTEPS, source, session, kept)
    if name == "plug and play":
        return replace(plain, solver=pinned, style=MethodReading(reference, SharedWithStyle()))
    if name == "statistics":
        return replace(plain, solver=pinned, style=MethodReading(reference, StatisticsOnly()))
    if name == "styleid":
        layers = appearance_layers(model.unet)
        solver = styleid(TIMESTEPS, source, session, layers, channel_moments(reference.trajectory[:1]))
        return replace(plain, solver=solver, style=MethodReading(reference, StyleInPlace(layers)))
    moments = reference_noise(reference.trajectory[:, None], TIMESTEPS, source, until=0)
    prior = NoiseAligned(plain.prior, moments)
    return replace(plain, solver=pinned, prior=prior, style=MethodReading(reference, ReplaceThenConcat(300)))


@pytest.mark.parametrize("name", METHODS)
def test_a_styled_frame_is_the_same_bits_alone_and_among_others(name: str, model: LatentModel) -> None:
    frames = clip(9)
    with install(model.unet, decoder_only=True) as session:
        stage = stage_by(name, model, session)
        together = render(stage, frames, [1, 2, 5], [0, 4, 8])
        alone = render(stage, frames, [2], [0, 4])
        other = replace(stage, style=replace(stage.style, reference=_other(stage)))
        assert torch.equal(together[2], alone[2])
        styled, foreign = (
            run_stage(s, [unit(frames[2], 2)], Independent())[0].pictures for s in (stage, other)
        )
    assert alone[2].isfinite().all()
    assert (styled - foreign).abs().max() > 1e-3, "the reference does not show"


@torch.no_grad()
def test_under_guidance_both_branches_take_the_sources_structure(tmp_path: Path) -> None:
    """A checkpoint with prompts: rows stay apart, and the source, told nothing, is met in either branch."""
    model = LatentModel.from_pretrained(str(save_tiny_sd(tmp_path)))
    pictures = torch.rand(3, 3, 128, 128, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with install(model.unet, decoder_only=True) as session:
        source, prior = BoundPrior(model, listener=session), BoundPrior(model, "ink", 3.0, session)
        kept = structure(structure_layers(model.unet), structure_residual(model.unet), 1.0)
        solver = PinnedSource((401, 201), source, session, kept)
        noise = torch.zeros(2, 4, 16, 16)
        found = restore(solver, pictures[:2], noise, prior)
        beside_another = restore(solver, pictures[[0, 2]], noise, prior)
        assert torch.equal(found[0], beside_another[0])

        z = model.encode(pictures[:2])
        taken = kept.at(0, 2)
        harvest, _ = taken.harvested(z, 401, source, session)
        plain = prior.branches(z + 1, 401)
        with session.injecting(taken.injection(harvest)):
            injected = prior.branches(z + 1, 401)
    for a, b in ((plain.cond, injected.cond), (plain.uncond, injected.uncond)):
        assert (a.eps - b.eps).abs().max() > 1e-4


def _other(stage: Stage):
    from operators.style.style_aligned import style_reference

    with torch.no_grad():
        return style_reference(-picture(8), TIMESTEPS, stage.prior)
