"""Small jobs for tests of the graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.events import Event
from pipeline.graph import RunSummary, run_job
from pipeline.settings import ClusterSettings, ConsistencySettings, EncodeSettings, JobSettings

LOCAL = ClusterSettings(actors=(1, 2), address="local")


def identity_job(source: str, output: Path, **changes: Any) -> JobSettings:
    job = JobSettings(
        name="test",
        seed=7,
        source=(source,),
        output=str(output),
        consistency=ConsistencySettings(knot_every=4, knots_per_chunk=2),
        encode=EncodeSettings(preset="ultrafast"),
        cluster=LOCAL,
    )
    return replace(job, **changes)


def stylize_item(reference: str) -> dict[str, Any]:
    """A short stylization, every field written out as specs do."""
    return {
        "stylize": {
            "reference": reference,
            "method": {
                "name": "style_aligned",
                "steps": 4,
                "shift": 0.69,
                "adain": True,
                "norms": False,
                "statistics": 1.0,
            },
            "prompt": "",
            "guidance": 1.0,
            "strength": 0.6,
            "depth": 1.0,
        }
    }


def stylize_job(source: str, output: Path, picture: Path, **changes: Any) -> JobSettings:
    item = stylize_item(str(write_style(picture)))
    return replace(identity_job(source, output), enhance=(item,), **changes)


def restore_job(source: str, output: Path, **changes: Any) -> JobSettings:
    degradation = {"kind": "super_resolution", "scale": 2, "kernel": "area", "noise": 0.02}
    item = {"restore": {"degradation": degradation, "solver": {"name": "dpir", "steps": 2}}}
    return replace(identity_job(source, output), enhance=(item,), **changes)


def write_style(path: Path) -> Path:
    """A picture of warm stripes."""
    stripes = np.zeros((96, 128, 3), np.uint8)
    stripes[..., 2] = 220
    stripes[::8, :, 1] = 200
    cv2.imwrite(str(path), stripes)
    return path


def run(job: JobSettings, events: list[Event] | None = None) -> RunSummary:
    seen = [] if events is None else events
    return run_job(job, on_event=seen.append)
