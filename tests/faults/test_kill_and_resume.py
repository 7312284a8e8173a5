"""A run that is killed without warning is resumed: nothing half-published, nothing committed redone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from pipeline.video.verify import measure
from tests.pipeline.graph.jobs import write_style
from tests.pipeline.video.media import Clip, make_clip

FRAMES = 24


def write_job(folder: Path, output: str) -> Path:
    make_clip(folder / "a.mp4", Clip(pts=range(0, FRAMES * 512, 512)))
    write_style(folder / "style.png")
    job = {
        "name": "killed",
        "source": str(folder / "a.mp4"),
        "output": str(folder / output),
        "enhance": [
            {
                "stylize": {
                    "reference": str(folder / "style.png"),
                    "method": {"name": "style_aligned", "steps": 4},
                }
            }
        ],
        "consistency": {"sharing": "none", "knot_every": 4, "knots_per_chunk": 1},
        "cluster": {"address": "local", "actors": [1, 1]},
    }
    path = folder / f"{output}.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def start(job: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "jobs", "run", str(job)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def segments(output: Path) -> int:
    return len(list((output / ".work").rglob("*.mkv")))


@pytest.mark.slow
def test_a_killed_run_resumes_without_redoing_what_was_committed(tmp_path: Path) -> None:
    undisturbed = start(write_job(tmp_path, "calm"))
    assert undisturbed.wait(timeout=300) == 0, undisturbed.communicate()[1]

    job = write_job(tmp_path, "killed")
    output = tmp_path / "killed"
    victim = start(job)
    deadline = time.monotonic() + 240
    while segments(output) < 2 and victim.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
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
