"""Runs as a user types them, and what they hold together with: helpers that die, an interrupt."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from jobs.bench.processes import segments, start_run, wait_until, workers_below
from pipeline.video.verify import measure
from tests.faults.jobs import FRAMES, write_job


@pytest.mark.slow
def test_every_helper_of_a_run_may_be_killed_while_it_starts(tmp_path: Path) -> None:
    """The actor that checks the model, the one that counts attempts, the one that enhances."""
    running = start_run(write_job(tmp_path, "out"))
    for name in ("_Ledger", "_Preparation", "EnhanceUnits"):
        deadline = time.monotonic() + 120
        victims: list[int] = []
        while not victims and running.poll() is None and time.monotonic() < deadline:
            victims = workers_below(running.pid, name)
        assert victims, f"no process of {name} was found"
        os.kill(victims[0], signal.SIGKILL)
    _, log = running.communicate(timeout=300)
    assert running.returncode == 0, log
    assert "Traceback" not in log
    assert measure(str(tmp_path / "out" / "videos" / "a.mp4")).frames == FRAMES


@pytest.mark.slow
def test_an_interrupted_run_exits_with_130_and_publishes_nothing(tmp_path: Path) -> None:
    # Slow enough that the run does not end while this process waits for a turn.
    job = write_job(tmp_path, "out", steps=40)
    output = tmp_path / "out"
    running = start_run(job)
    assert wait_until(lambda: segments(output) > 0, running, 240)
    os.kill(running.pid, signal.SIGINT)
    _, log = running.communicate(timeout=60)
    assert running.returncode == 130, log
    assert "Traceback" not in log
    assert not list((output / "videos").rglob("*.mp4")) if (output / "videos").exists() else True
