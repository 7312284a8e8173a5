"""`bench scaling`: how the work of a job grows with its actors.

real        the embedded model with one actor and with two, a thread each, beside what the machine itself
            gives two such processes that share nothing: hyperthreads of one core do not make two
simulated   4, 16 and 64 actors that sleep as long as a chunk takes on an accelerator; all else is real
            (planning, decoding, Ray Data, encoding, commits), so that what is missing to 1 is ours
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from jobs.bench.result import BenchResult, Target
from jobs.bench.unit_times import SpellLog, sleeping_actors, span, steady_use, timed_actors
from jobs.bench.video_clips import Moving, write_moving
from jobs.console import say
from jobs.spec import JobSpec, parse_spec
from pipeline.errors import RunError

ACTORS = (4, 16, 64)
_QUICK_ACTORS = (2,)
#: A chunk of half a minute of video takes an accelerator about as long; here it is the pace of the driver.
SLEEP, _QUICK_SLEEP = 20.0, 1.0
#: Chunks per simulated actor.
TURNS, _QUICK_TURNS = 8, 3
EFFICIENCY, SPEED_UP = 0.95, 1.9
_KNOT_EVERY = 4
_WIDTH, _HEIGHT = 32, 24
#: The real clip: large enough that a chunk takes seconds.
_REAL_WIDTH, _REAL_HEIGHT, _REAL_FRAMES, _QUICK_FRAMES = 128, 96, 384, 32


def run(quick: bool) -> BenchResult:
    """Both; ``quick`` is two simulated actors and a clip of two seconds."""
    actors, seconds, turns = (_QUICK_ACTORS, _QUICK_SLEEP, _QUICK_TURNS) if quick else (ACTORS, SLEEP, TURNS)
    with tempfile.TemporaryDirectory(prefix="reelweave-scaling-") as name:
        folder = Path(name)
        simulated = tuple(_simulated(folder, count, seconds, turns) for count in actors)
        real = _real_rows(folder, _QUICK_FRAMES if quick else _REAL_FRAMES)
    targets = [
        Target(f"efficiency of {row['actors']} simulated actors", row["efficiency"], EFFICIENCY)
        for row in simulated[-1:]
    ]
    targets.append(Target("speed of two actors over one", real[-1]["speed_up"], SPEED_UP))
    return BenchResult("scaling", simulated, tuple(targets), {"real": real})


def _simulated(folder: Path, actors: int, seconds: float, turns: int) -> dict[str, Any]:
    say(f"{actors} simulated actors")
    chunks = actors * turns
    clip = write_moving(folder / f"{actors}.mp4", Moving(_WIDTH, _HEIGHT, chunks * _KNOT_EVERY + 1))
    log = SpellLog(folder / f"{actors}.log")
    spec = _job(Path(clip), folder / f"out-{actors}", actors, sharing="none")
    with sleeping_actors(log, seconds):
        _run(spec)
    spells = log.read()
    return {
        "actors": len({spell.pid for spell in spells}),
        "chunks": len(spells),
        "chunk_s": seconds,
        "wall_s": round(span(spells), 1),
        "efficiency": round(steady_use(spells), 4),
    }


def _real_rows(folder: Path, frames: int) -> tuple[dict[str, Any], ...]:
    clip = write_moving(folder / "real.mp4", Moving(_REAL_WIDTH, _REAL_HEIGHT, frames))
    rows = []
    for actors in (1, 2):
        say(f"{actors} real actors")
        log = SpellLog(folder / f"real-{actors}.log")
        with timed_actors(log):
            _run(_job(Path(clip), folder / f"real-{actors}", actors, sharing="none"))
        spells = [spell for spell in log.read() if spell.level == "chunk"]
        rows.append(
            {
                "actors": actors,
                "frames_per_s": sum(spell.frames for spell in spells) / span(spells),
                "in_use": round(steady_use(spells), 4),
            }
        )
    say("two processes that share nothing")
    alone, beside = _machine(1), _machine(2)
    for row, machine in zip(rows, (1.0, 2.0 * alone / beside), strict=True):
        row["speed_up"] = round(row["frames_per_s"] / rows[0]["frames_per_s"], 3)
        row["machine_gives"] = round(machine, 3)
    return tuple({**row, "frames_per_s": round(row["frames_per_s"], 3)} for row in rows)


def _job(clip: Path, output: Path, actors: int, *, sharing: str) -> JobSpec:
    denoise = {"degradation": {"kind": "denoise", "noise": 0.05}, "solver": {"name": "dpir", "steps": 1}}
    return parse_spec(
        {
            "name": "scaling",
            "source": str(clip),
            "output": str(output),
            "enhance": [{"restore": denoise}],
            "consistency": {"sharing": sharing, "knot_every": _KNOT_EVERY, "knots_per_chunk": 1},
            "encode": {"preset": "ultrafast"},
            "torch_threads": 1,
            "cluster": {"address": "local", "gpus_per_actor": 0, "actors": [actors, actors]},
        }
    )


def _run(spec: JobSpec) -> None:
    from pipeline.graph import run_job

    summary = run_job(spec.to_settings(), on_event=lambda event: None, job_yaml=spec.to_yaml())
    if summary.done != summary.videos:
        raise RunError(f"bench scaling: the job failed: {[row.error for row in summary.rows]}")


def _machine(processes: int) -> float:
    """Seconds that each of so many processes needs for the same network calls, at once; the median."""
    command = [sys.executable, "-m", "jobs.bench.scaling"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    taken = [float(json.loads(one.communicate()[0].splitlines()[-1])) for one in running]
    return sorted(taken)[len(taken) // 2]


def _main() -> None:
    """Network calls of the embedded model on one thread; prints their seconds."""
    import torch

    from operators.models import BoundPrior, LatentModel

    torch.set_num_threads(1)
    prior = BoundPrior(LatentModel.from_pretrained("embedded"))
    z = torch.zeros(4, prior.model.latent_channels, 24, 32)
    with torch.no_grad():
        prior.predict(z, 400)
        begun = time.monotonic()
        for _ in range(40):
            prior.predict(z, 400)
    print(json.dumps(time.monotonic() - begun))


if __name__ == "__main__":
    _main()
