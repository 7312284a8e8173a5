"""`reelweave train-embedded` as a command: one line for what is wrong, one object for what was made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from tests.support.training_pictures import write_pictures

ROOT = Path(__file__).resolve().parents[2]
RUNNER = CliRunner()


def train_embedded(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs", "train-embedded", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_folder_that_is_not_there_exits_2_with_one_line(tmp_path: Path) -> None:
    done = train_embedded(tmp_path / "absent", "--out", tmp_path / "out", "--iterations", "1")
    assert done.returncode == 2
    assert done.stdout == ""
    where = tmp_path / "absent"
    assert done.stderr == f"reelweave: {where} is not a folder; give a folder of pictures\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--iterations", "1", "--minutes", "1"], "either --minutes or --iterations"),
        (["--iterations", "1", "--wake"], "--wake needs --start-from"),
        (["--minutes", "-3"], "--minutes must be above 0"),
    ],
    ids=["both lengths", "wake alone", "negative"],
)
def test_impossible_options_exit_2_with_one_line(tmp_path: Path, arguments: list[str], text: str) -> None:
    folder = write_pictures(tmp_path / "pictures", 1)
    done = RUNNER.invoke(app, ["train-embedded", str(folder), "--out", str(tmp_path / "out"), *arguments])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [["--part", "text"], ["--pixels", "100"], ["--device", "tpu"], ["--seed", "-1"]], ids=str
)
def test_options_out_of_range_exit_2_without_a_traceback(tmp_path: Path, arguments: list[str]) -> None:
    done = RUNNER.invoke(app, ["train-embedded", str(tmp_path), *arguments])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_run_prints_one_object_and_so_does_the_same_run_again(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", 8)
    chosen = ["--iterations", "1", "--part", "vae", "--pixels", "32768", "--json"]
    done = train_embedded(folder, "--out", tmp_path / "out", *chosen)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["out"] == str(tmp_path / "out")
    assert said["parts"]["vae"]["iteration"] >= 1
    assert "vae " in done.stderr
    assert "add unet/ to use it" in done.stderr
    assert "Traceback" not in done.stderr
    again = RUNNER.invoke(app, ["train-embedded", str(folder), "--out", str(tmp_path / "out"), *chosen])
    assert again.exit_code == 0
    assert json.loads(again.stdout) == said
