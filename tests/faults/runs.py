"""Runs as processes, for tests that kill them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from tests.pipeline.graph.jobs import write_style
from tests.pipeline.video.media import Clip, make_clip

FRAMES = 24


def write_job(folder: Path, output: str, steps: int = 4, sharing: str = "none") -> Path:
    """A job of six chunks; ``steps`` of the sampler make them slower, ``sharing`` adds phases before them."""
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
                    "method": {"name": "style_aligned", "steps": steps},
                }
            }
        ],
        "consistency": {"sharing": sharing, "knots": "even", "knot_every": 4, "knots_per_chunk": 1},
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
        # A test run in the background of a shell has interrupts ignored, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def segments(output: Path) -> int:
    return len(list((output / ".work").rglob("*.mkv")))


def wait_for_segments(run: subprocess.Popen[str], output: Path, count: int) -> None:
    """Return when ``count`` segments are committed, the run has ended, or four minutes have passed."""
    deadline = time.monotonic() + 240
    while segments(output) < count and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def workers_below(ancestor: int, name: str) -> list[int]:
    """Process ids of Ray workers named ``name`` among the descendants of process ``ancestor``."""
    parents, names = {}, {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            names[int(folder.name)] = (folder / "cmdline").read_bytes().decode(errors="replace")
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    found = []
    for process, command in names.items():
        above: int | None = process
        while above is not None and above != ancestor:
            above = parents.get(above)
        if above == ancestor and name in command:
            found.append(process)
    return found
