"""Every style method as a stage of a job: what a frame becomes does not depend on who is beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from operators.attention.depth import appearance_layers, structure_layers, structure_residual
from operators.attention.install import install
from operators.attention.policies.scene import Independent
from operators.attention.session import SharedAttention
from operators.inversion.pinned import PinnedSource, structure
from operators.models import BoundPrior, LatentModel
from operators.replay import MethodReading, Stage, run_stage
from operators.solvers.base import StepSolver
from operators.style.readings import ReplaceThenConcat, SharedWithStyle, StatisticsOnly, StyleInPlace
from operators.style.rival import NoiseAligned, reference_noise
from operators.style.styleid import styleid
from tests.operators.test_replay import TIMESTEPS, clip, picture, render, stage_of, unit

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
        solver = styleid(TIMESTEPS, source, session, layers, reference.trajectory[:1])
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


def _other(stage: Stage):
    from operators.style.style_aligned import style_reference

    with torch.no_grad():
        return style_reference(-picture(8), TIMESTEPS, stage.prior)
