"""`bench style`: cases come from the schema of job files, figures are counted, the bar can be missed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jobs.bench import style_cases, style_methods
from jobs.bench.clips import first_frames
from jobs.bench.style_handover import handover_rows
from jobs.bench.style_scores import bundled_reference, shrunk_square, style_scores
from jobs.demo.demo import TRUTH
from operators.models import LatentModel


@pytest.fixture(scope="module")
def model() -> LatentModel:
    return LatentModel.from_pretrained("embedded", precision="fp32")


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return shrunk_square(first_frames(TRUTH, 3), 48)


def test_every_method_of_job_files_is_found_in_their_schema_and_the_default_comes_first() -> None:
    assert "style_aligned" in style_cases.names_of("method")
    assert style_cases.names_of("no such member") == ()
    found = style_cases.cases()
    assert found[0].name == "default"
    assert found[0].enhance[0]["stylize"]["method"]["name"] == "style_aligned"
    assert len({str(case.enhance) for case in found}) == len(found)


def test_names_are_read_from_single_sections_and_from_unions_of_them() -> None:
    sections = {
        "A": {"properties": {"name": {"const": "a"}}},
        "B": {"properties": {"name": {"enum": ["b", "c"]}}},
        "C": {"properties": {}},
    }
    union = {"anyOf": [{"oneOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]}, {"type": "null"}]}
    assert style_cases._names({"allOf": [{"$ref": "#/$defs/A"}]}, sections) == ["a"]
    assert style_cases._names(union, sections) == ["a", "b", "c"]
    assert style_cases._names({"$ref": "#/$defs/C"}, sections) == []


def test_a_picture_is_at_no_distance_from_itself_as_style_and_as_content(
    model: LatentModel, truth: np.ndarray
) -> None:
    own = style_scores(model, truth, truth, None)
    assert (own.gram, own.lab) == (0.0, 0.0)
    assert own.gradients == pytest.approx(1.0)
    far = style_scores(model, truth, truth, bundled_reference())
    assert far.lab > 0.3
    assert far.gram > 0.0


def test_the_default_is_measured_with_its_share_of_anchors_in_what_it_cost(
    model: LatentModel, truth: np.ndarray
) -> None:
    default = style_cases.cases()[0]
    source, row = style_methods._measure("clip", truth, 2, (default,), model)
    assert (source["lab fall"], source["grad_ssim"], source["E_warp / source"]) == (0.0, 1.0, 1.0)
    assert row["lab fall"] > 0.0
    assert 0.0 < row["grad_ssim"] < 1.0
    steps = int(default.enhance[0]["stylize"]["method"]["steps"] * default.enhance[0]["stylize"]["depth"])
    # Inversion and sampling of every frame; replays of what is read come on top.
    assert row["network"] > 2 * steps


def test_only_the_analytic_autoencoder_gives_back_the_latent_that_it_decoded(truth: np.ndarray) -> None:
    vae, analytic = handover_rows(truth[0])
    assert vae["latent"] > 0.005
    assert analytic["latent"] < 1e-5 < analytic["clipped"]


def rows(*values: tuple[float, float]) -> tuple[dict[str, Any], ...]:
    return tuple({"lab": lab, "grad_ssim": content} for lab, content in values)


def test_a_strength_that_turns_back_misses_the_target_that_it_is_about() -> None:
    held = style_methods.monotone("clip", rows((0.7, 0.9), (0.5, 0.8), (0.4, 0.8)))
    assert [target.holds for target in held] == [True, True]
    style, content = style_methods.monotone("clip", rows((0.7, 0.9), (0.5, 0.8), (0.51, 0.7)))
    assert (style.holds, content.holds) == (False, True)
    style, content = style_methods.monotone("clip", rows((0.7, 0.9), (0.5, 0.95)))
    assert (style.holds, content.holds) == (True, False)


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, []),
        ({"lab fall": 0.49}, [0]),
        ({"grad_ssim": 0.59}, [1]),
        ({"E_warp_x1e3": 1.4}, [2]),
    ],
)
def test_each_part_of_the_bar_is_missed_alone(changes: dict[str, float], missed: list[int]) -> None:
    default = {"lab fall": 0.5, "grad_ssim": 0.6, "E_warp_x1e3": 1.29, **changes}
    found = style_methods.bar("clip", {"E_warp_x1e3": 1.0}, default)
    assert [at for at, target in enumerate(found) if not target.holds] == missed


def test_a_clip_that_stands_still_is_measured_without_a_ratio_of_warp_errors(
    model: LatentModel, truth: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = np.repeat(truth[:1], 3, 0)
    monkeypatch.setattr(style_methods, "render_chunks", lambda enhancer, clip, how: [still])
    source, default = style_methods._measure("still", still, 4, style_cases.cases()[:1], model)
    assert (source["E_warp_x1e3"], source["E_warp / source"], default["E_warp / source"]) == (0.0, None, None)
    assert style_methods.bar("still", source, default)[2].holds
