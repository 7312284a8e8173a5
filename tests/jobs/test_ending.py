"""A run that a scheduler ends: what is in flight is finished or abandoned, and a rerun does the rest."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.faults.runs import FRAMES, segments, start, wait_for_segments, write_job


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_that_is_terminated_finishes_what_it_has_begun_exits_with_130_and_is_resumed(
    tmp_path: Path,
) -> None:
    job, output = write_job(tmp_path, "out", steps=8), tmp_path / "out"
    # Long enough for the unit in flight, however slow this machine is.
    job.write_text(job.read_text().replace("cluster:\n", "cluster:\n  drain_seconds: 200.0\n"))
    running = start(job)
    for _ in range(3):  # a busy machine takes minutes to start Ray and a model
        wait_for_segments(running, output, 1)
    os.kill(running.pid, signal.SIGTERM)
    _, log = running.communicate(timeout=600)
    assert running.returncode == 130, log
    assert "what is in flight is finished, for at most 200 s" in log
    assert "run the same command again to resume" in log
    assert "Traceback" not in log
    committed = segments(output)
    assert 0 < committed < FRAMES // 4, "nothing new was begun"
    assert not list((output / "videos").rglob("*.mp4")) if (output / "videos").exists() else True
    (book,) = (output / ".work" / "attempts").iterdir()
    assert json.loads(book.read_text()) == {}, "nothing is held against what was in flight"

    resumed = start(job)
    _, log = resumed.communicate(timeout=600)
    assert resumed.returncode == 0, log
    (metrics,) = [json.loads(path.read_text()) for path in (output / "runs").glob("*/metrics.json")]
    assert metrics["chunks_done_before"] == committed
