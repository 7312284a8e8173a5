"""What a scheduler's log shows when a run cannot begin: a sentence that says what to do, and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from tests.infra.files import ROOT
from tests.infra.jobs import write_job

NOWHERE = "127.0.0.1:9"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, "-m", "jobs", "run", *arguments],
        env=env, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("address", "environment"),
    [(NOWHERE, {}), ("auto", {"RAY_ADDRESS": NOWHERE})],
    ids=["an address", "RAY_ADDRESS"],
)
def test_without_a_cluster_the_address_is_named_and_what_to_do(
    address: str, environment: dict[str, str], tmp_path: Path
) -> None:
    ended = run(str(write_job(tmp_path)), "--address", address, **environment)
    assert ended.returncode == 2
    assert f"nothing answers at {address.replace('auto', NOWHERE)}" in ended.stderr
    assert "start Ray there, correct the address, or use 'local'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "out" / "videos").exists()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "no such job file; 'reelweave init' writes one"),
        (lambda path: path.mkdir(), "cannot be read"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00job"), "not a text file in UTF-8"),
        (lambda path: path.write_text("name: [nightly"), "job.yaml"),
        (lambda path: path.write_text(""), "expected a mapping with name, source and output"),
    ],
    ids=["missing", "a folder", "not text", "not YAML", "empty"],
)
def test_a_job_file_that_cannot_be_read_is_named(make: object, says: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    make(path)  # type: ignore[operator]
    ended = CliRunner().invoke(app, ["run", str(path), "--address", NOWHERE])
    assert ended.exit_code == 2
    assert says in ended.stderr
    assert str(path) in ended.stderr
