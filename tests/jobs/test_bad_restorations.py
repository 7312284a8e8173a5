"""What cannot be restored is refused by `reelweave plan`, before any work, with what would work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from jobs.cli import app
from operators.mmdit import CLASS
from operators.noise_schedule import _CONSISTENCY, _FLOW
from operators.solvers.registry import METHODS
from pipeline.model_fit import CONSISTENCY, FLOW, TRANSFORMER
from pipeline.restore_fit import DIFFUSIONS, fitting, models_of
from tests.jobs.media import write_clip
from tests.support.tiny_models import (
    save_tiny_bridge,
    save_tiny_few_step,
    save_tiny_flow,
    save_tiny_sd,
    save_tiny_sd3,
)

TWICE = {"kind": "super_resolution", "scale": 2}
BLUR = {"kind": "deblur", "kernel": "gaussian", "sigma": 2.0}
WIDTH, HEIGHT = 64, 48


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip, masks and models of three kinds."""
    root = tmp_path_factory.mktemp("refused")
    write_clip(root / "in" / "a.mp4", width=WIDTH, height=HEIGHT)
    cv2.imwrite(str(root / "low.png"), np.zeros((HEIGHT + 2, WIDTH), np.uint8))
    cv2.imwrite(str(root / "white.png"), np.full((HEIGHT, WIDTH), 255, np.uint8))
    (root / "text.png").write_text("no picture")
    save_tiny_sd(root / "sd")
    save_tiny_few_step(root / "lcm")
    save_tiny_flow(root / "flow")
    (root / "bridge").mkdir()
    save_tiny_bridge(root / "bridge")
    (root / "oracle").mkdir()
    save_tiny_bridge(root / "oracle", kind="one_step")
    return root


def plan(place: Path, restore: dict[str, Any], *, model: str = "embedded", **more: Any) -> Result:
    local = {
        key: str(place / value) if key in ("mask", "checkpoint") else value
        for key, value in restore["degradation"].items()
    }
    solver = dict(restore.get("solver", {"name": "dpir"}))
    if "checkpoint" in solver:
        solver["checkpoint"] = str(place / solver["checkpoint"])
    job = {
        "name": "refused",
        "source": str(place / "in" / "a.mp4"),
        "output": str(place / "out"),
        "model": model if model == "embedded" else str(place / model),
        "enhance": [{"restore": {**restore, "degradation": local, "solver": solver}}],
        **more,
    }
    path = place / "job.yaml"
    path.write_text(json.dumps(job))
    found = CliRunner().invoke(app, ["plan", str(path), "--json"])
    assert "Traceback" not in found.stderr
    assert not (place / "out").exists()
    return found


@pytest.mark.parametrize(
    ("degradation", "field", "words"),
    [
        ({**TWICE, "scale": 2.5}, "degradation.scale", "a whole number, found 2.5"),
        ({**TWICE, "scale": 1}, "degradation.scale", "at least 2"),
        ({**TWICE, "scale": 17}, "degradation.scale", "at most 16"),
        (
            {"kind": "composition", "scale": 3, "parts": [TWICE, TWICE]},
            "degradation.scale",
            "shrink by 4; write",
        ),
        ({**TWICE, "noise": 1.5}, "degradation.noise", "less than 1"),
        ({**TWICE, "noise": -0.1}, "degradation.noise", "at least 0"),
        ({"kind": "denoise", "noise": 0.0}, "degradation.noise", "more than 0"),
        ({"kind": "denoise", "noise": 25}, "degradation.noise", "less than 1"),
        ({"kind": "shot_noise", "peak": 0.5}, "degradation.peak", "at least 1"),
        ({"kind": "salt_and_pepper", "fraction": 0.95}, "degradation.fraction", "at most 0.9"),
        ({**BLUR, "sigma": 0}, "degradation.sigma", "more than 0"),
        ({"kind": "inpainting", "mask": "none.png"}, "degradation.mask", "cannot be read"),
        ({"kind": "inpainting", "mask": "text.png"}, "degradation.mask", "give a PNG or JPEG"),
        ({"kind": "inpainting", "mask": "white.png"}, "degradation.mask", "black what is kept"),
        ({"kind": "inpainting"}, "degradation", "give exactly one"),
    ],
)
def test_a_degradation_that_cannot_be_exits_2_naming_the_field_and_the_range(
    degradation: dict[str, Any], field: str, words: str, place: Path
) -> None:
    found = plan(place, {"degradation": degradation})
    assert found.exit_code == 2
    assert found.stdout == ""
    assert found.stderr.count("\n") == 1
    assert f"enhance.0.restore.{field}: " in found.stderr
    assert words in found.stderr


@pytest.mark.parametrize(
    ("degradation", "code", "words"),
    [
        (
            {"kind": "inpainting", "mask": "low.png"},
            "mask_size",
            "has 64x50 pixels, the frames have 64x48",
        ),
        ({**BLUR, "sigma": 40.0}, "enhance_refused", "larger than the frame; use at most 11.75"),
        (
            {"kind": "deblur", "kernel": "motion", "length": 90.0},
            "enhance_refused",
            "larger than the frame; use at most 47",
        ),
        (
            {"kind": "composition", "parts": [TWICE, {"kind": "deblur", "kernel": "disk", "radius": 30.0}]},
            "enhance_refused",
            "parts.1.radius: 30.0 makes the kernel larger than the frame; use at most 23.5",
        ),
        (
            {"kind": "inpainting", "boxes": [[0, 0, 8, 8], [60, 0, 8, 8]]},
            "enhance_refused",
            "boxes.1: [60, 0, 8, 8] leaves the frame",
        ),
        ({"kind": "inpainting", "boxes": [[0, 0, 64, 48]]}, "enhance_refused", "hide every pixel"),
        (
            {"kind": "inpainting", "stripes": {"period": 200, "width": 100}},
            "enhance_refused",
            "hide all 48 lines; use a width below 48",
        ),
        ({"kind": "destriping", "longest_period": 500.0}, "enhance_refused", "use at most 96"),
    ],
)
def test_a_video_that_a_degradation_does_not_fit_is_listed_as_rejected_with_what_would_fit(
    degradation: dict[str, Any], code: str, words: str, place: Path
) -> None:
    found = plan(place, {"degradation": degradation})
    assert found.exit_code == 0
    (rejected,) = json.loads(found.stdout)["rejected"]
    assert rejected["code"] == code
    assert "enhance.0.restore.degradation." in rejected["error"]
    assert words in rejected["error"]


@pytest.mark.parametrize(
    ("degradation", "solver", "words"),
    [
        (
            {"kind": "clipping"},
            "treg",
            "needs a linear degradation, and clipping is none; use one of dpir",
        ),
        (
            {"kind": "jpeg", "quality": 30},
            "ddnm",
            "ddnm needs a linear degradation, and jpeg is none",
        ),
        (
            {"kind": "jpeg", "quality": 30},
            "video_latent",
            "use one of dpir, psld, ldps, dps_nojac, stsl",
        ),
        ({"kind": "salt_and_pepper", "fraction": 0.1}, "ldps", "use one of dpir, diffpir, video_latent"),
        (
            {**BLUR, "noise": 0.05},
            "ddnm",
            "would amplify the noise, for the pseudo-inverse of a blur does",
        ),
        (
            {"kind": "composition", "parts": [BLUR, TWICE], "noise": 0.05},
            "ddnm",
            "would amplify the noise",
        ),
        (BLUR, "blind_dps", "needs a blur given by its kernel (motion, disk or anisotropic)"),
        (TWICE, "dipr", "did you mean 'dpir'?"),
    ],
)
def test_a_solver_that_cannot_undo_the_degradation_exits_2_with_those_that_can(
    degradation: dict[str, Any], solver: str, words: str, place: Path
) -> None:
    found = plan(place, {"degradation": degradation, "solver": {"name": solver}})
    assert found.exit_code == 2
    assert found.stdout == ""
    assert found.stderr.count("\n") == 1
    assert "enhance.0.restore.solver: " in found.stderr
    assert words in found.stderr


@pytest.mark.parametrize(
    ("solver", "model", "words"),
    [
        (
            "latino",
            "embedded",
            "needs a few-step model (its scheduler an LCMScheduler or TCDScheduler)",
        ),
        (
            "latino",
            "flow",
            "a flow model; with it this degradation goes with dps_nojac, flowchef, flowdps",
        ),
        (
            "flowdps",
            "embedded",
            "embedded is a diffusion model; with it this degradation goes with dpir",
        ),
        ("flowchef", "lcm", "is a consistency model; with it this degradation goes with dpir"),
        ("dpir", "flow", "dpir needs a diffusion model or few-step model"),
    ],
)
def test_a_model_of_the_wrong_kind_exits_2_with_the_solvers_that_go_with_it(
    solver: str, model: str, words: str, place: Path
) -> None:
    found = plan(place, {"degradation": TWICE, "solver": {"name": solver}}, model=model)
    assert found.exit_code == 2
    assert found.stdout == ""
    assert found.stderr.startswith("reelweave: enhance.0.restore.solver: ")
    assert words in found.stderr.replace("\n", "")


@pytest.mark.parametrize(
    ("solver", "model"), [("latino", "lcm"), ("flowdps", "flow"), ("dps_nojac", "flow"), ("dpir", "lcm")]
)
def test_a_model_of_the_right_kind_is_planned(solver: str, model: str, place: Path) -> None:
    assert plan(place, {"degradation": TWICE, "solver": {"name": solver}}, model=model).exit_code == 0


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        ("none", "checkpoint.json cannot be read"),
        ("oracle", "holds a one_step model; cddb reads a folder with"),
    ],
)
def test_a_checkpoint_that_is_no_bridge_exits_2(checkpoint: str, words: str, place: Path) -> None:
    found = plan(place, {"degradation": TWICE, "solver": {"name": "cddb", "checkpoint": checkpoint}})
    assert found.exit_code == 2
    assert "enhance.0.restore.solver.checkpoint: " in found.stderr
    assert words in found.stderr
    bridged = {"degradation": TWICE, "solver": {"name": "cddb", "checkpoint": "bridge"}}
    assert plan(place, bridged).exit_code == 0


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({}, "consistency.sharing", "frames cannot share attention in a transformer; set sharing: none"),
        ({"class": "FluxTransformer2DModel"}, "model", "of transformers only SD3Transformer2DModel"),
        ({"style": True}, "enhance.0.stylize", "no frame can read a style; use a model with a UNet"),
    ],
)
def test_a_transformer_shares_no_attention_and_says_so_when_it_is_asked_to(
    changes: dict[str, Any], field: str, words: str, place: Path, tmp_path: Path
) -> None:
    (tmp_path / "mmdit" / "transformer").mkdir(parents=True)
    facts = {"_class_name": changes.get("class", "SD3Transformer2DModel")}
    (tmp_path / "mmdit" / "transformer" / "config.json").write_text(json.dumps(facts))
    restore = {"restore": {"degradation": TWICE, "solver": {"name": "flowchef"}}}
    style = {"stylize": {"reference": str(place / "low.png")}}
    job = {
        "name": "mmdit",
        "source": str(place / "in" / "a.mp4"),
        "output": str(tmp_path / "out"),
        "model": str(tmp_path / "mmdit"),
        "enhance": [style if changes.get("style") else restore],
    }
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    found = CliRunner().invoke(app, ["plan", str(tmp_path / "job.yaml"), "--json"])
    assert found.exit_code == 2
    assert found.stderr.startswith(f"reelweave: {field}: ")
    assert words in found.stderr.replace("\n", "")


def test_frames_larger_than_a_transformer_knows_positions_are_refused_when_they_are_planned(
    place: Path, tmp_path: Path
) -> None:
    model = save_tiny_sd3(tmp_path / "sd3", t5=False)

    def planned(scale: int) -> list[dict[str, str]]:
        restore = {"degradation": {**TWICE, "scale": scale}, "solver": {"name": "flowchef"}}
        found = plan(place, restore, model=str(model), consistency={"sharing": "none"})
        assert found.exit_code == 0, found.stderr
        return json.loads(found.stdout)["rejected"]

    assert planned(2) == []
    (refused,) = planned(3)
    assert refused["code"] == "enhance_refused"
    assert "makes pictures of 192x144, and the model knows no positions beyond 128" in refused["error"]


def test_a_prompt_is_refused_where_the_model_reads_none(place: Path) -> None:
    prompted = {"degradation": TWICE, "solver": {"name": "treg"}, "prompt": "ink"}
    refused = plan(place, prompted)
    assert refused.exit_code == 2
    assert refused.stderr == (
        "reelweave: enhance.0.restore.prompt: model embedded has no text_encoder/ and reads no text; leave "
        "it out or choose a model that has one\n"
    )
    assert plan(place, prompted, model="sd").exit_code == 0


def test_what_a_plan_knows_of_models_is_what_the_solvers_and_the_loader_know() -> None:
    assert {name: set(models_of(name)) for name in METHODS} == {
        name: set(method.kinds) for name, method in METHODS.items()
    }
    assert ((_FLOW,), _CONSISTENCY) == (FLOW, CONSISTENCY)
    assert CLASS == TRANSFORMER
    for kind in (*DIFFUSIONS, "flow"):
        assert all(kind in METHODS[name].kinds for name in fitting(TWICE, kind))
