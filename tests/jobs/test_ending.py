"""A run that a scheduler ends says so by its exit code; what it leaves is tested with the graph."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.faults.runs import start, wait_for_segments, write_job


@pytest.mark.slow
def test_a_run_that_is_terminated_exits_with_130_and_publishes_nothing(tmp_path: Path) -> None:
    # Slow enough that the run does not end while this process waits for a turn.
    job, output = write_job(tmp_path, "out", steps=40), tmp_path / "out"
    running = start(job)
    wait_for_segments(running, output, 1)
    os.kill(running.pid, signal.SIGTERM)
    _, log = running.communicate(timeout=280)
    assert running.returncode == 130, log
    assert "run the same command again to resume" in log
    assert "Traceback" not in log
    assert not list((output / "videos").rglob("*.mp4")) if (output / "videos").exists() else True
