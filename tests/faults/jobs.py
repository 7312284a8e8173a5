"""Small jobs that faults happen to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import yaml

from pipeline.settings import ClusterSettings, ConsistencySettings, JobSettings
from tests.pipeline.graph.jobs import identity_job, write_style
from tests.pipeline.video.media import Clip, make_clip

FRAMES = 24

Kind = Literal["identity", "enhanced"]

CHUNKS = 6
"""Chunks of `catalog_job`: four of one clip, two of the other."""


def write_catalog(folder: Path) -> Path:
    """Two clips of 32x24 and a file that is none."""
    folder.mkdir()
    for name, frames in (("a", 14), ("b", 6)):
        make_clip(folder / f"{name}.mp4", Clip(pts=range(0, frames * 512, 512), width=32, height=24))
    (folder / "none.mp4").write_bytes(b"<Error><Code>AccessDenied</Code></Error>")
    return folder


def catalog_job(kind: Kind, catalog: Path, output: str, address: str) -> JobSettings:
    """Every source, re-encoded or through one step of the embedded model with anchors and knots."""
    degradation = {"kind": "denoise", "noise": 0.05}
    denoising = {"restore": {"degradation": degradation, "solver": {"name": "dpir", "steps": 1}}}
    job = identity_job(str(catalog / "*"), Path())
    return replace(
        job,
        output=output,
        enhance=(denoising,) if kind == "enhanced" else (),
        consistency=ConsistencySettings(anchors=1, knot_every=4, knots_per_chunk=1),
        cluster=ClusterSettings(actors=(1, 1), address=address),
    )


def write_job(folder: Path, output: str, steps: int = 4, sharing: str = "none") -> Path:
    """A job file of six chunks; ``steps`` of the sampler make them slower."""
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
