"""A run that is killed without warning is resumed: nothing half-published, nothing committed redone."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from pipeline.video.verify import measure
from tests.faults.runs import FRAMES, segments, start, wait_for_segments, workers_below, write_job


@pytest.mark.slow
def test_a_killed_run_resumes_without_redoing_what_was_committed(tmp_path: Path) -> None:
    undisturbed = start(write_job(tmp_path, "calm", sharing="knots"))
    assert undisturbed.wait(timeout=300) == 0, undisturbed.communicate()[1]

    job = write_job(tmp_path, "killed", sharing="knots")
    output = tmp_path / "killed"
    victim = start(job)
    wait_for_segments(victim, output, 2)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.communicate()
    committed = segments(output)
    assert 0 < committed < FRAMES // 4, "the kill came too late to test anything"
    assert not list((output / "videos").rglob("*")) if (output / "videos").exists() else True

    resumed = start(job)
    _, log = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, log
    (metrics,) = [
        facts
        for path in (output / "runs").glob("*/metrics.json")
        if (facts := json.loads(path.read_text()))["done"]
    ]
    assert metrics["chunks"] == FRAMES // 4
    assert metrics["chunks_done_before"] >= committed
    calm = measure(str(tmp_path / "calm" / "videos" / "a.mp4"))
    again = measure(str(output / "videos" / "a.mp4"))
    assert again.frames == FRAMES
    assert again.frames_md5 == calm.frames_md5
    assert again.pts == calm.pts


@pytest.mark.slow
def test_a_worker_killed_in_mid_chunk_costs_one_attempt_and_no_frame(tmp_path: Path) -> None:
    job = write_job(tmp_path, "out")
    output = tmp_path / "out"
    running = start(job)
    wait_for_segments(running, output, 1)
    victims = workers_below(running.pid, "EnhanceUnits")
    assert victims, "no enhance actor was found"
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    _, log = running.communicate(timeout=300)
    assert running.returncode == 0, log
    assert "Traceback" not in log
    assert measure(str(output / "videos" / "a.mp4")).frames == FRAMES


@pytest.mark.slow
def test_every_helper_of_a_run_may_be_killed_while_it_starts(tmp_path: Path) -> None:
    """The actor that checks the model, the one that counts attempts, the one that enhances."""
    running = start(write_job(tmp_path, "out"))
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
    running = start(job)
    wait_for_segments(running, output, 1)
    os.kill(running.pid, signal.SIGINT)
    _, log = running.communicate(timeout=60)
    assert running.returncode == 130, log
    assert "Traceback" not in log
    assert not list((output / "videos").rglob("*.mp4")) if (output / "videos").exists() else True
