"""`bench restore` at a tiny setting: what it counts, what it holds against what, and its sections."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from jobs.bench import restore, restore_closed_forms, restore_gradients, restore_orders, restore_pictures
from jobs.bench.restore_clips import clip_rows
from jobs.bench.restore_defaults import default_rows
from jobs.bench.restore_samplers import NEED_OTHER_MODELS, SOLVERS, Samplers, as_in_jobs
from jobs.bench.restore_tasks import tasks
from jobs.bench.samples import Sample
from jobs.cli import app
from operators.metrics.perceptual import perceptual_distance
from operators.solvers.registry import METHODS

SIDE = 32


def picture(seed: int, side: int = SIDE) -> np.ndarray:
    """Smooth colours with an edge, uint8 [side, side, 3]."""
    noise = np.random.default_rng(seed).standard_normal((side, side, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4.0)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min()) * 200.0
    smooth[side // 2 :, : side // 2] += 40.0
    return smooth.astype(np.uint8)


@pytest.fixture(scope="module")
def model() -> Samplers:
    torch.set_num_threads(1)
    return Samplers()


def samples(count: int) -> list[Sample]:
    return [Sample(f"picture {i}", picture(i)[None]) for i in range(count)]


def test_a_section_alone_is_printed_as_json_and_kept_under_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(restore, "QUICK_METHODS", ("flowchef", "latino"))
    ran = CliRunner().invoke(app, ["bench", "restore", "--quick", "--json", "--section", "closed-forms"])
    assert ran.exit_code == 0, ran.stderr
    facts = json.loads(ran.stdout)
    assert facts == json.loads((tmp_path / "bench-out" / "restore-closed-forms.json").read_text())
    assert facts["command"] == "reelweave bench restore --quick --section closed-forms"
    assert [row["method"] for row in facts["rows"]] == ["exact draws"] * 2 + ["latino"] * 2 + ["flowchef"] * 2
    assert [row["method"] for row in facts["tables"]["two modes"]] == ["exact draws", "latino", "flowchef"]
    assert facts["targets"][0]["holds"]


def test_a_row_outside_its_band_misses_the_target() -> None:
    rows = [{"method": "a", "outside": ""}, {"method": "b", "outside": "va 3 for 1"}]
    (target,) = restore_closed_forms.closed_form_targets(rows)
    assert (target.value, target.holds) == (0.5, False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["restore", "--section", "nothing"], "no section of bench restore"),
        (["gops", "--section", "clips"], "leave it out"),
        (["restore", "--section", "sr-x2", "--pictures", "small"], "96 x 96"),
    ],
)
def test_a_section_or_folder_that_will_not_do_is_bad_input(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    cv2.imwrite(str(tmp_path / "small" / "a.png"), picture(1))
    ran = CliRunner().invoke(app, ["bench", *arguments])
    assert ran.exit_code == 2
    assert said in ran.stderr


def test_every_solver_of_the_registry_is_measured_or_said_to_need_another_model() -> None:
    assert set(SOLVERS) | set(NEED_OTHER_MODELS) | {"blind_dps"} == set(METHODS)


def test_pictures_are_held_against_the_classical_methods_and_evaluations_are_counted(
    model: Samplers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore_pictures, "SOLVERS", ("dpir", "ddnm"))
    rows = {row["method"]: row for row in restore_pictures.picture_rows(model, samples(2), "sr-x2")}
    assert list(rows) == ["bicubic", "back-projected bicubic", "start of samplers", "dpir", "ddnm"]
    best = max(rows["bicubic"]["psnr_db"], rows["back-projected bicubic"]["psnr_db"])
    assert rows["ddnm"]["over_classical_db"] == pytest.approx(rows["ddnm"]["psnr_db"] - best, abs=0.011)
    assert {rows["dpir"][part] for part in ("forward", "encode", "decode")} == {4}
    assert rows["dpir"]["backward"] == 0
    assert rows["bicubic"]["forward"] is None
    (target,) = restore_pictures.picture_targets(list(rows.values()))
    assert target.value == rows["dpir"]["over_classical_db"]


def test_holes_alone_are_scored_when_holes_are_filled(
    model: Samplers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore_pictures, "SOLVERS", ())
    task = tasks(SIDE)["inpaint"]
    truth = restore_pictures.together(samples(1))[0]
    assert task.keep is not None
    measured = task.measured(truth, model.operator(task.degradation, truth), ["picture 0"])
    np.testing.assert_allclose(measured[0][task.keep != 0], truth[0][task.keep != 0], atol=1e-5)
    rows = restore_pictures.picture_rows(model, samples(1), "inpaint")
    assert [row["method"] for row in rows] == ["TELEA", "Navier-Stokes", "start of samplers"]
    assert all(row["psnr_db"] < 60.0 for row in rows)


def test_orders_spend_what_their_budget_says(model: Samplers, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = {"1": 88.0, "1/4": 22.0}
    for share, settings in restore_orders.BUDGETS:
        steps = int(settings["steps"] * 0.4)
        averages, second = settings.get("averages", 0), settings.get("eta", 0.02) > 0
        per_step = 2 if settings["name"] == "psld" else (4 if second else 2) * averages + 2
        assert steps * per_step == pytest.approx(shares[share], rel=0.1)
    small = (("1", {"name": "psld", "steps": 5}), ("1", {"name": "stsl", "steps": 3, "averages": 1}))
    monkeypatch.setattr(restore_orders, "BUDGETS", small)
    rows = restore_orders.order_rows(model, samples(1))
    assert [row["evaluations"] for row in rows] == [4, 6, 4, 6]
    assert rows[1]["solver"] == "stsl, steps 3, averages 1"


def test_a_clip_is_scored_in_time_on_every_task_and_its_truth_costs_nothing(
    model: Samplers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.bench.restore_clips.SOLVERS", ("ddnm",))
    first = picture(3, SIDE + 8)
    frames = np.stack([first[i : i + SIDE, i : i + SIDE] for i in range(3)])
    rows = clip_rows(model, "moving", frames)
    methods: dict[str, list[str]] = {}
    for row in rows:
        methods.setdefault(row["task"], []).append(row["method"])
    enlarged = ["truth", "bicubic", "back-projected bicubic", "start of samplers", "ddnm"]
    assert [methods[task.name] for task in tasks(SIDE).values()] == [
        enlarged,
        enlarged,
        # The pseudo-inverse of a blur would amplify the noise.
        ["truth", "nothing", "Wiener", "start of samplers"],
        ["truth", "TELEA", "Navier-Stokes", "start of samplers", "ddnm"],
        ["truth", "nothing", "NLM", "start of samplers", "ddnm"],
    ]
    assert {row["flicker"] for row in rows if row["method"] == "truth"} == {0.0}
    assert {row["frames"] for row in rows} == {3}
    assert len({tuple(row) for row in rows}) == 1


def test_defaults_are_compared_picture_by_picture(model: Samplers) -> None:
    grid = (("dps_nojac", "scale", (1.0,)), ("diffpir", "strength", (0.1,)), ("diffpir", "draws", (2,)))
    rows = default_rows(model, samples(2), grid)
    settings = ["defaults", "scale x 1.0", "defaults", "strength 0.1", "draws 2"]
    assert [row["setting"] for row in rows] == settings * 2
    assert rows[1]["over_defaults_db"] == pytest.approx(0.0, abs=1e-3)
    assert rows[3]["over_defaults_db"] != 0.0
    # The mean of draws is nearer to the truth than a draw.
    assert rows[4]["over_defaults_db"] > 0.1


@pytest.mark.parametrize("task", sorted(tasks(32)))
def test_every_solver_that_is_measured_on_a_task_is_one_that_a_job_takes(task: str, model: Samplers) -> None:
    degradation = tasks(32)[task].degradation
    scale = int(degradation.get("scale", 1))
    operator = model.operator(degradation, np.zeros((1, 32 // scale, 32 // scale, 3), np.float32))
    taken = [name for name in SOLVERS if not restore_pictures.is_refused(name, degradation, operator, model)]
    assert "dpir" in taken
    for name in taken:
        as_in_jobs(degradation, {"name": name})


def test_jobs_fill_in_what_a_solver_is_not_told() -> None:
    task = tasks(SIDE)["sr-x2"]
    assert as_in_jobs(task.degradation, {"name": "psld"}) == {
        "name": "psld",
        "strength": 0.4,
        "last_fit": True,
    }


def test_a_gradient_is_measured_and_printed_as_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    restore_gradients._main("embedded", "cpu", SIDE, 1, 0, True)
    assert set(json.loads(capsys.readouterr().out)) == {"grown MiB", "s/frame"}


def test_targets_of_gradients_compare_on_with_off() -> None:
    rows = [
        {"network": "n", "rows at once": rows, "recompute": on, "grown MiB": mib}
        for rows, on, mib in (("all", "off", 100.0), ("all", "on", 60.0), (1, "off", 50.0), (1, "on", 50.0))
    ]
    (target,) = restore_gradients.gradient_targets(rows)
    assert (target.value, target.holds) == (0.4, True)


def test_the_perceptual_distance_is_of_directions_at_each_place_and_of_every_picture_alone() -> None:
    a, b = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    a[:, 0], b[0, 0], b[1, 1] = 2.0, 5.0, 1.0
    assert perceptual_distance([a], [b]).tolist() == pytest.approx([0.0, 2.0])
    assert perceptual_distance([a, a], [a, b]).tolist() == pytest.approx([0.0, 1.0])
