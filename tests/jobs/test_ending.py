"""A run that a scheduler ends says so by its exit code; what it leaves is tested with the graph."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from jobs.bench.processes import segments, start_run, wait_until
from tests.faults.jobs import write_job


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_that_is_terminated_exits_with_130_and_publishes_nothing(tmp_path: Path) -> None:
    # Slow enough that the run does not end while this process waits for a turn.
    job, output = write_job(tmp_path, "out", steps=40), tmp_path / "out"
    running = start_run(job)
    # A busy machine takes minutes to start Ray and a model.
    assert wait_until(lambda: segments(output) > 0, running, 720.0)
    os.kill(running.pid, signal.SIGTERM)
    _, log = running.communicate(timeout=280)
    assert running.returncode == 130, log
    assert "run the same command again to resume" in log
    assert "Traceback" not in log
    assert not list((output / "videos").rglob("*.mp4")) if (output / "videos").exists() else True
