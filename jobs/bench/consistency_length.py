"""`bench consistency`, length: a clip of two minutes against one of ten seconds.

Each length runs in a fresh process, `python -m jobs.bench.consistency_length FRAMES`: denoised with the
default policy chunk by chunk and scored as a stream, with nothing kept but scores. The clip is the bundled
one, small, played to and fro under a window that wanders.
"""

from __future__ import annotations

import functools
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jobs.bench.clips import first_frames
from jobs.bench.consistency_policies import DEFAULT, POLICIES, Clip, enhancer_of, render_chunks
from jobs.bench.consistency_tasks import DENOISE_SIGMA, tasks
from jobs.bench.result import Target
from jobs.bench.video_memory import peak_kib
from jobs.console import say
from jobs.demo.demo import TRUTH
from jobs.render import Frames
from pipeline.settings import ConsistencySettings

#: Ten seconds and two minutes at 25 frames per second.
LENGTHS = (250, 3000)
HEIGHT, WIDTH = 48, 64
_WIDER, _HIGHER = 96, 60
#: Time on a shared machine varies by more than memory does.
ALLOWED_GROWTH, ALLOWED_SLOWDOWN = 1.1, 1.25
_MIB = 1024.0
#: Linux only: writing 5 there makes the peak of resident memory begin anew.
_CLEAR_REFS = Path("/proc/self/clear_refs")


def length_rows(lengths: Sequence[int] = LENGTHS) -> tuple[dict[str, Any], ...]:
    """One row per length: peak resident memory, CPU seconds per frame of the median chunk, and E_warp."""
    rows = []
    for frames in lengths:
        say(f"length: {frames} frames of {WIDTH}x{HEIGHT}")
        command = [sys.executable, "-m", "jobs.bench.consistency_length", str(frames)]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        facts = json.loads(ran.stdout.splitlines()[-1])
        rows.append({"frames": frames, **facts})
    return tuple(rows)


def length_targets(rows: Sequence[dict[str, Any]]) -> list[Target]:
    """The short clip's memory and time over the long one's."""
    short, long = rows[0], rows[-1]
    return [
        Target(
            f"peak memory of {short['frames']} frames over {long['frames']}",
            round(short["peak_mib"] / long["peak_mib"], 3),
            round(1 / ALLOWED_GROWTH, 3),
        ),
        Target(
            f"seconds per frame of {short['frames']} frames over {long['frames']}",
            round(short["s/frame"] / long["s/frame"], 3),
            round(1 / ALLOWED_SLOWDOWN, 3),
        ),
    ]


def reset_peak() -> bool:
    """Let the peak of resident memory begin anew; False where the system cannot."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def wandering(ordinals: Sequence[int]) -> Frames:
    """Frames [n, HEIGHT, WIDTH, 3] of a clip without end."""
    clip = _small_clip()
    turn = 2 * len(clip) - 2
    frames = []
    for i in ordinals:
        to_and_fro = min(i % turn, turn - i % turn)
        left = round((_WIDER - WIDTH) * (0.5 + 0.5 * math.sin(i / 97.0)))
        top = round((_HIGHER - HEIGHT) * (0.5 + 0.5 * math.cos(i / 71.0)))
        frames.append(clip[to_and_fro, top : top + HEIGHT, left : left + WIDTH])
    return np.stack(frames)


def noisy(ordinals: Sequence[int]) -> Frames:
    """`wandering` with noise of DENOISE_SIGMA, the same for a frame whichever others are asked for."""
    generators = [np.random.Generator(np.random.PCG64(i)) for i in ordinals]
    noise = np.stack([generator.standard_normal((HEIGHT, WIDTH, 3)) for generator in generators])
    return np.rint(np.clip(wandering(ordinals) + 255.0 * DENOISE_SIGMA * noise, 0, 255)).astype(np.uint8)


@functools.cache
def _small_clip() -> Frames:
    import cv2

    frames = first_frames(TRUTH, 48)
    return np.stack([cv2.resize(f, (_WIDER, _HIGHER), interpolation=cv2.INTER_AREA) for f in frames])


def _main(frames: int) -> None:
    from operators.metrics.temporal_scores import temporal_scores

    (policy,) = (policy for policy in POLICIES if policy.name == DEFAULT)
    (task,) = (task for task in tasks(quick=True) if task.name == "denoise")
    how = ConsistencySettings(knots_per_chunk=2, frames_per_batch=8)
    clip = Clip("length", frames, noisy)
    enhancer = enhancer_of(policy, task.enhance, how, {})
    before = peak_kib()
    spent: list[float] = []

    def pictures() -> Iterator[Frames]:
        chunks = render_chunks(enhancer, clip, how)
        while True:
            begun = time.process_time()
            chunk = next(chunks, None)
            if chunk is None:
                return
            spent.append((time.process_time() - begun) / len(chunk))
            yield from chunk

    scores = temporal_scores((wandering([i])[0] for i in range(frames)), pictures())
    facts = {
        "before_mib": round(before / _MIB, 1),
        "peak_mib": round(peak_kib() / _MIB, 1),
        "s/frame": round(statistics.median(spent), 4),
        "E_warp_x1e3": round(scores.warp_error() * 1e3, 3),
        "E_warp@16": round(scores.warp_error(16) * 1e3, 3),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    _main(int(sys.argv[1]))
