"""No credential is in anything that a job writes or prints, whoever spells it out."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jobs.console import guarded
from jobs.progress import JsonProgress
from jobs.report import write_report
from pipeline.events import Event
from pipeline.manifest import read_video_rows
from pipeline.redact import BLOT
from tests.jobs.media import published_store, write_clip

ROOT = Path(__file__).resolve().parents[2]
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def test_tracebacks_and_unexpected_errors_are_printed_without(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer

    monkeypatch.setenv("REELWEAVE_DEBUG", "1")

    def failing() -> int:
        try:
            raise OSError(f"signed with {SECRET}")
        except OSError as error:
            raise RuntimeError(
                f"GET https://me:hunter2hunter2@host/x?X-Amz-Signature=0a1b2c: {SECRET}"
            ) from error

    with pytest.raises(typer.Exit):
        guarded(failing)()
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert BLOT in printed
    for secret in (SECRET, "hunter2", "0a1b2c"):
        # The traceback quotes the lines of this very test, which name the variable and not its value.
        assert secret not in "\n".join(line for line in printed.splitlines() if "raise " not in line)


def test_progress_is_printed_without() -> None:
    out = io.StringIO()
    JsonProgress(out)(Event("log", f"quarantined a.mp4: failed: said {SECRET}", 0, 0))
    assert SECRET not in out.getvalue()
    assert BLOT in out.getvalue()


def test_a_report_is_written_without(tmp_path: Path) -> None:
    store = published_store(tmp_path / "out")
    store.put("runs/r1/job.yaml", f"name: a\nnote: {SECRET}\n".encode())
    write_report(store, "r1", read_video_rows(store))
    page = store.read("runs/r1/report.html").decode()
    assert SECRET not in page
    assert BLOT in page


@pytest.mark.slow
def test_a_whole_run_leaves_none_in_its_output_and_on_the_terminal(tmp_path: Path) -> None:
    write_clip(tmp_path / "in" / "a.mp4")
    (tmp_path / "in" / "bad.mp4").write_bytes(b"not a video")
    job = {
        "name": "careful",
        "source": str(tmp_path / "in" / "*.mp4"),
        "output": str(tmp_path / "out"),
        "cluster": {"address": "local", "actors": [1, 1]},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    session = {"AWS_SESSION_TOKEN": "FwoGZXIvYXdzEXAMPLETOKEN", "REELWEAVE_DEBUG": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "run", str(tmp_path / "job.yaml")],
        env={**os.environ, "PYTHONPATH": str(ROOT), **session},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {"videos.parquet", "failures.parquet", "report.html", "job.yaml"} <= {
        path.name for path in written
    }
    for secret in (SECRET, session["AWS_SESSION_TOKEN"]):
        assert secret not in done.stderr + done.stdout
        assert not [path for path in written if secret.encode() in path.read_bytes()]
