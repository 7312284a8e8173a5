"""The smallest real job: one second of video, encoded again."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.jobs.media import write_clip


def write_job(folder: Path) -> Path:
    """``job.yaml`` in ``folder``, from ``in/a.mp4`` to ``out/``."""
    write_clip(folder / "in" / "a.mp4", frames=25)
    job = folder / "job.yaml"
    facts = {
        "name": "nightly",
        "source": str(folder / "in" / "*.mp4"),
        "output": str(folder / "out"),
        "enhance": [],
        "encode": {"preset": "ultrafast"},
    }
    job.write_text(yaml.safe_dump(facts))
    return job
