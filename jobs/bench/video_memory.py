"""`bench video`, memory: how the peak of index, decode, encode and assembly grows with the length of a clip.

Each length is measured in a fresh process: `python -m jobs.bench.video_memory FILE`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.bench.result import Target

#: Frames of the shortest clip: more than one chunk, so that a longer clip has more of them, not larger ones.
FRAMES = 144
WIDTH, HEIGHT = 160, 96
TIMES = (1, 4, 16)
ALLOWED_GROWTH = 1.1
_MIB = 1024.0


def memory_rows() -> tuple[dict[str, Any], ...]:
    """One row per length: resident memory in MiB before any work, and at its peak."""
    from jobs.bench.video_clips import Moving, write_moving

    rows = []
    with tempfile.TemporaryDirectory(prefix="reelweave-") as folder:
        for times in TIMES:
            clip = write_moving(Path(folder, f"{times}.mp4"), Moving(WIDTH, HEIGHT, FRAMES * times))
            before, peak = _in_fresh_process(clip)
            rows.append(_row(times, before, peak))
    shortest = rows[0]["peak_mib"]
    return tuple({**row, "peak_ratio": round(row["peak_mib"] / shortest, 3)} for row in rows)


def memory_targets(rows: Sequence[dict[str, Any]]) -> list[Target]:
    """Peak of the shortest clip over that of the longest."""
    return [
        Target(f"peak memory of a clip over one {rows[-1]['times']} times as long",
               round(rows[0]["peak_mib"] / rows[-1]["peak_mib"], 3), round(1 / ALLOWED_GROWTH, 3))
    ]  # fmt: skip


def peak_kib(pid: int | None = None) -> int:
    """Peak resident memory so far, of this process or of ``pid`` (on Linux; raises OSError when it is gone).

    VmHWM and not ru_maxrss where there is one: the latter is inherited, over exec too, from the parent.
    """
    try:
        lines = Path(f"/proc/{pid or 'self'}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        if pid is not None:
            raise
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak // 1024 if sys.platform == "darwin" else peak


def _row(times: int, before: int, peak: int) -> dict[str, Any]:
    return {
        "times": times,
        "frames": FRAMES * times,
        "before_mib": round(before / _MIB, 1),
        "peak_mib": round(peak / _MIB, 1),
        "grown_mib": round((peak - before) / _MIB, 1),
    }


def _in_fresh_process(clip: str) -> tuple[int, int]:
    ran = subprocess.run(
        [sys.executable, "-m", "jobs.bench.video_memory", clip], check=True, capture_output=True, text=True
    )
    before, peak = json.loads(ran.stdout)
    return before, peak


def _main(clip: str) -> None:
    """Take a clip through every stage as a job does, and print the peaks before and after, in KiB."""
    from jobs.bench.video_chain import identity_job
    from pipeline.settings import EncodeSettings

    before = peak_kib()
    with tempfile.TemporaryDirectory(prefix="reelweave-") as folder:
        identity_job(clip, Path(folder), EncodeSettings(preset="ultrafast"), through_rgb=True)
    print(json.dumps([before, peak_kib()]))


if __name__ == "__main__":
    _main(sys.argv[1])
