"""`bench pipeline`: what a whole job costs over its computing alone.

The same clip, settings and threads: as a job (storage, planning, Ray Data, decoding, encoding, commits,
assembly), and as bare computing in one process that holds the decoded frames already. Computing is timed
before and after the job, each in a fresh process.

    steady    from the first unit that the actor begins to the end of its last, over the computing
    whole     the job's wall time, with the start of Ray, indexing and publishing, over the computing
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

from jobs.bench.result import BenchResult, Target
from jobs.bench.video_clips import Moving, write_moving
from jobs.console import say
from jobs.spec import JobSpec, load_spec, parse_spec
from pipeline.errors import RunError

ALLOWED = 1.05
#: Frames for a job of about five minutes on one thread of a small machine, and for a look.
FRAMES, _QUICK_FRAMES = 1_600, 48
_WIDTH, _HEIGHT = 192, 128


def run(quick: bool) -> BenchResult:
    """One job of more than five minutes; ``quick`` one of seconds, in which Ray's start is most of it."""
    frames = _QUICK_FRAMES if quick else FRAMES
    with tempfile.TemporaryDirectory(prefix="reelweave-pipeline-") as name:
        folder = Path(name)
        clip = write_moving(folder / "clip.mp4", Moving(_WIDTH, _HEIGHT, frames))
        spec = _job(clip, folder / "out")
        path = folder / "job.yaml"
        path.write_text(spec.to_yaml())
        say("computing alone")
        before = _alone(path)
        say("the job")
        job = _as_job(spec, folder / "spells")
        say("computing alone, again")
        after = _alone(path)
    if not before["chunks"] == after["chunks"] == job["chunks"]:
        raise RunError(f"bench pipeline: {before['chunks']} chunks alone, {job['chunks']} in the job")
    alone = mean((before["seconds"], after["seconds"]))
    row = {
        "frames": frames,
        "chunks": job["chunks"],
        "alone_before_s": round(before["seconds"], 2),
        "alone_after_s": round(after["seconds"], 2),
        "job_steady_s": round(job["steady"], 2),
        "job_whole_s": round(job["whole"], 2),
        "actor_in_use": round(job["use"], 4),
        "steady_ratio": round(job["steady"] / alone, 3),
        "whole_ratio": round(job["whole"] / alone, 3),
    }
    target = Target(
        "computing alone over the job in steady state",
        round(alone / job["steady"], 3),
        round(1 / ALLOWED, 3),
    )
    return BenchResult("pipeline", (row,), (target,))


def _job(clip: str, output: Path) -> JobSpec:
    denoise = {"degradation": {"kind": "denoise", "noise": 0.05}, "solver": {"name": "dpir", "steps": 2}}
    return parse_spec(
        {
            "name": "pipeline",
            "source": clip,
            "output": str(output),
            "enhance": [{"restore": denoise}],
            "torch_threads": 1,
            "cluster": {"address": "local", "gpus_per_actor": 0, "actors": [1, 1]},
        }
    )


def _as_job(spec: JobSpec, spells: Path) -> dict[str, Any]:
    from jobs.bench.unit_times import SpellLog, span, steady_use, timed_actors
    from pipeline.graph import run_job

    log, begun = SpellLog(spells), time.monotonic()
    with timed_actors(log):
        summary = run_job(spec.to_settings(), on_event=lambda event: None, job_yaml=spec.to_yaml())
    whole = time.monotonic() - begun
    if summary.done != summary.videos:
        raise RunError(f"bench pipeline: the job failed: {[row.error for row in summary.rows]}")
    seen = log.read()
    # Each phase has actors of its own; those of the chunks do nearly all of the work.
    chunks = [spell for spell in seen if spell.level == "chunk"]
    return {"whole": whole, "steady": span(seen), "use": steady_use(chunks), "chunks": len(chunks)}


def _alone(job: Path) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, "-m", "jobs.bench.whole_job", str(job)], capture_output=True, text=True, check=False
    )
    if ran.returncode != 0:
        raise RunError(f"bench pipeline: computing alone failed: {ran.stderr[-500:]}")
    facts: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return facts


def _main(job: Path) -> None:
    """Anchors, knots and chunks of the job's one clip, its frames decoded beforehand; prints the seconds."""
    from jobs.bench.consistency_policies import Clip, render_chunks
    from pipeline.enhancer import Enhancer
    from pipeline.enhancer_config import EnhancerConfig
    from pipeline.settings import Limits
    from pipeline.video.index import build_index
    from pipeline.video.rgb import decode_rgb

    settings = load_spec(job).to_settings()
    (path,) = settings.source
    index = build_index(path, path, Limits(), "", settings.video)
    frames = decode_rgb(path, index, range(index.frames))
    enhancer = Enhancer(
        EnhancerConfig(
            model=settings.model,
            precision=settings.precision,
            device="cpu",
            enhance=settings.enhance,
            consistency=settings.consistency,
            seed=settings.seed,
            torch_threads=settings.torch_threads,
        )
    )
    clip = Clip("alone", index.frames, lambda ordinals: frames[list(ordinals)])
    begun = time.monotonic()
    chunks = sum(1 for _ in render_chunks(enhancer, clip, settings.consistency))
    print(json.dumps({"seconds": time.monotonic() - begun, "chunks": chunks}))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
