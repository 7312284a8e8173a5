"""The catalog and the jobs of `bench soak`: tiny clips, some of them no videos, re-encoded or enhanced."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from jobs.bench.video_clips import Moving, write_moving

WIDTH, HEIGHT = 32, 24
#: One in so many sources is bad, and there is at least one.
_BAD_EVERY = 6

_DENOISING = {
    "restore": {
        "degradation": {"kind": "denoise", "noise": 0.05},
        "solver": {"name": "dpir", "steps": 1},
    }
}
#: What is done with the catalog: nothing but encoding, or one step of the embedded model.
JOBS: dict[str, list[dict[str, Any]]] = {"identity": [], "one step": [_DENOISING]}


def write_catalog(folder: Path, videos: int, seed: int) -> None:
    """``videos`` sources of 6 to 18 frames: the second is a copy of the first, the last ones are bad."""
    folder.mkdir(parents=True)
    bad = max(1, videos // _BAD_EVERY)
    for number in range(videos - bad):
        path = folder / f"{number:02d}{'.mkv' if number % 3 == 2 else '.mp4'}"
        if number == 1:
            shutil.copy(folder / "00.mp4", path)
        else:
            write_moving(path, Moving(WIDTH, HEIGHT, 6 + number * 5 % 13, 100 * seed + number))
    whole = (folder / "00.mp4").read_bytes()
    contents = (b"", b"<Error><Code>AccessDenied</Code></Error>", whole[: len(whole) // 3])
    for number in range(bad):
        (folder / f"bad-{number:02d}.mp4").write_bytes(contents[number % len(contents)])


def job_of(name: str, catalog: Path, output: Path) -> dict[str, Any]:
    """A job file of `JOBS`: chunks of four frames, on this machine's processors."""
    return {
        "name": "soak",
        "source": str(catalog / "*"),
        "output": str(output),
        "enhance": JOBS[name],
        "consistency": {"sharing": "knots", "anchors": 1, "knot_every": 4, "knots_per_chunk": 1},
        "encode": {"preset": "ultrafast"},
        "cluster": {"address": "local", "gpus_per_actor": 0, "actors": [1, 2]},
    }
