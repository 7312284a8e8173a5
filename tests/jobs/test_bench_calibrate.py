"""`bench calibrate` leaves a file that `plan` reads, for the job that it was asked about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from jobs.bench import calibrate
from jobs.bench.calibrate import Timed, frame_and_chunk
from jobs.cli import app
from tests.jobs.media import write_clip

DENOISE = {"restore": {"degradation": {"kind": "denoise", "noise": 0.05}}}


def write_job(folder: Path, *enhance: dict[str, Any]) -> Path:
    write_clip(folder / "in" / "a.mp4", width=32, height=32)
    job = {
        "name": "costs",
        "source": str(folder / "in" / "a.mp4"),
        "output": str(folder / "out"),
        "enhance": list(enhance),
        "consistency": {"knot_every": 3, "anchors": 1},
    }
    path = folder / "job.yaml"
    path.write_text(json.dumps(job))
    return path


def invoke(*arguments: object) -> Result:
    found = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert "Traceback" not in found.stderr
    return found


def test_a_job_is_calibrated_and_planned_with_hours_and_a_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "QUICK_SIDES", (32,))
    monkeypatch.setattr(calibrate, "TURNS", 1)
    monkeypatch.setattr(calibrate, "QUICK_CHECK", (32, 3))
    job = write_job(tmp_path, DENOISE)
    bench = invoke("bench", "calibrate", "--quick", "--json", "--job", job, "--out", tmp_path / "bench")
    assert bench.exit_code == 0
    facts = json.loads(bench.stdout)
    assert {row["stage"] for row in facts["rows"]} == {"decode", "reference", "frame", "chunk", "encode"}
    (checked,) = facts["tables"]["prediction"]
    # Three intervals of three frames.
    assert checked["frames"] == 9
    assert checked["from_s"] <= checked["predicted_s"] <= checked["to_s"]

    file = tmp_path / "bench" / calibrate.FILE
    planned = invoke("plan", job, "--json", "--calibration", file, "--price-per-hour", 2.0)
    assert planned.exit_code == 0
    estimate = json.loads(planned.stdout)["estimate"]
    assert 0.0 < estimate["actor_hours"]["low"] <= estimate["actor_hours"]["high"]
    assert estimate["price"]["high"] >= estimate["price"]["low"] > 0.0
    table = invoke("plan", job, "--calibration", file)
    assert "actor hours" in table.stdout
    assert " to " in table.stdout

    other = invoke("plan", job, "--set", "autoencoder=analytic", "--calibration", file)
    assert other.exit_code == 2
    assert "another enhance list" in other.stderr


def test_a_price_without_a_calibration_is_bad_input(tmp_path: Path) -> None:
    found = invoke("plan", write_job(tmp_path, DENOISE), "--price-per-hour", 2.0)
    assert found.exit_code == 2
    assert "--calibration" in found.stderr


@pytest.mark.parametrize(
    ("enhance", "words"),
    [
        ([], "enhance is empty"),
        ([{"restore": {"degradation": "auto"}}], "what each video needs"),
        ([{"restore": {"degradation": {"kind": "inpainting", "mask": "m.png"}}}], "masks are of one size"),
    ],
)
def test_jobs_whose_costs_hang_on_their_videos_are_refused(
    tmp_path: Path, enhance: list[dict[str, Any]], words: str
) -> None:
    found = invoke("bench", "calibrate", "--job", write_job(tmp_path, *enhance), "--out", tmp_path / "bench")
    assert found.exit_code == 2
    assert words in found.stderr


def test_other_benchmarks_take_no_job(tmp_path: Path) -> None:
    found = invoke("bench", "gops", "--job", write_job(tmp_path, DENOISE), "--out", tmp_path / "bench")
    assert found.exit_code == 2
    assert "it is for calibrate" in found.stderr


def test_two_lengths_tell_what_a_chunk_takes_besides_its_frames() -> None:
    short, long = Timed("frame", 10, 0.5, 7.0), Timed("frame", 30, 0.5, 17.0)
    assert frame_and_chunk(short, long) == (1.0, 2.0)
    # Where the longer one was not slower, all is told per frame.
    assert frame_and_chunk(short, Timed("frame", 30, 0.5, 6.0)) == (0.4, 0.0)
