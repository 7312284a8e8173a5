"""`bench naive`: what a job computes against a plain loop of diffusers over the frames.

Both undo the same degradation of the bundled clip with the embedded weights, the same solver (`dpir`, as jobs
do when none is named), the same timesteps and one thread. The plain loop takes frame by frame. Ours is the
Enhancer that actors run, under settings of the job file that leave the steps as they are. They take turns;
each row holds medians, and what both made: PSNR to the truth, and of one to the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jobs.bench.clips import first_frames
from jobs.bench.consistency_policies import Clip, Policy, enhancer_of, render_chunks
from jobs.bench.race import race
from jobs.bench.restore_samplers import as_in_jobs, signed, unsigned
from jobs.bench.result import BenchResult, Target
from jobs.bench.samples import Sample
from jobs.bench.scores import psnr
from jobs.bench.threads import one_thread
from jobs.console import say
from jobs.demo.demo import TRUTH
from pipeline.errors import SpecError
from pipeline.settings import Autoencoder, ConsistencySettings

if TYPE_CHECKING:
    from operators.solvers.dpir import Dpir
    from pipeline.enhancer import Enhancer

Frames = NDArray[np.uint8]

FASTER = 2.5
#: Equal quality: this near to the plain loop's pictures, or restored as well within a tenth of a dB.
NEAR_DB, EQUAL_DB = 35.0, 0.1
DEGRADATION: dict[str, Any] = {"kind": "super_resolution", "scale": 2, "kernel": "area", "noise": 0.02}
_SEED = 5


@dataclass(frozen=True)
class Size:
    """Frames of the clip and the side of their centre squares in pixels, restored; turns of each."""

    frames: int
    side: int
    repeats: int


FULL, QUICK = Size(33, 96, 5), Size(17, 64, 3)


@dataclass(frozen=True)
class Ours:
    """Settings of a job file, as ``name`` says."""

    name: str
    consistency: Mapping[str, Any]
    autoencoder: Autoencoder = "vae"


_ALONE, _BATCH = {"sharing": "none"}, {"frames_per_batch": 4}
OURS = (
    Ours("frames alone", _ALONE),
    Ours("frames alone, batch 4", {**_ALONE, **_BATCH}),
    Ours("frames alone, batch 4, analytic", {**_ALONE, **_BATCH}, "analytic"),
    Ours("knots (the default)", {}),
    Ours("knots, batch 4, analytic", _BATCH, "analytic"),
)


def run(quick: bool) -> BenchResult:
    """The bundled clip, halved and noisy, back at its size. Raises SpecError where it is too small."""
    size = QUICK if quick else FULL
    with one_thread():
        rows = _rows(size)
    equal = [row["times_faster"] for row in rows if row["equal_quality"]]
    best = Target("times faster than the plain loop at equal quality", max(equal, default=0.0), FASTER)
    return BenchResult("naive", tuple(rows), (best,))


def _rows(size: Size) -> list[dict[str, Any]]:
    from jobs.bench.naive_plain import PlainLoop

    square = Sample("clip", first_frames(TRUTH, size.frames)).square(size.side)
    if square is None or len(square.frames) < size.frames:
        raise SpecError(f"bench naive: {TRUTH} holds fewer than {size.frames} frames of {size.side} pixels")
    truth = square.frames
    measured = halved_and_noisy(truth)
    solver, plain_loop = plain_solver(measured), PlainLoop()
    made: dict[str, Frames] = {}
    rows = []
    for ours in OURS:
        say(f"{ours.name} and the plain loop, {size.repeats} turns each")
        enhancer = enhancer_for(ours)
        clip = Clip("bundled", len(measured), lambda ordinals: measured[list(ordinals)])

        def as_a_job(enhancer: Enhancer = enhancer, clip: Clip = clip) -> None:
            chunks = list(render_chunks(enhancer, clip, enhancer.config.consistency))
            made["ours"] = np.concatenate(chunks)

        def plainly() -> None:
            made["plain"] = plain_loop.restore(measured, solver)

        found = race(as_a_job, plainly, size.repeats)
        enhancer.close()
        ours_db, plain_db = db(made["ours"], truth), db(made["plain"], truth)
        near = db(made["ours"], made["plain"])
        rows.append(
            {
                "ours": ours.name,
                "ours_ms_per_frame": round(1e3 * found.ours_seconds / len(truth), 1),
                "plain_ms_per_frame": round(1e3 * found.plain_seconds / len(truth), 1),
                "times_faster": round(1.0 / found.ratio, 3),
                "times_faster_cpu": round(1.0 / found.cpu_ratio, 3),
                "ours_db": round(ours_db, 2),
                "plain_db": round(plain_db, 2),
                "ours_to_plain_db": round(near, 2),
                "equal_quality": near >= NEAR_DB or ours_db >= plain_db - EQUAL_DB,
            }
        )
    return rows


def enhancer_for(ours: Ours) -> Enhancer:
    """What actors would run under these settings."""
    restore = {"degradation": DEGRADATION, "solver": as_in_jobs(DEGRADATION, {"name": "dpir"})}
    policy = Policy(ours.name, ours.consistency)
    return enhancer_of(
        policy, ({"restore": restore},), ConsistencySettings(), {}, autoencoder=ours.autoencoder
    )


def plain_solver(measured: Frames) -> Dpir:
    """Timesteps, weights and operator that a job takes for these frames."""
    from operators.degradations.registry import build_operator, measurement_sigma
    from operators.models import BoundPrior, LatentModel
    from operators.solvers.dpir import Dpir
    from operators.solvers.registry import build_solver

    height, width = (side * 2 for side in measured.shape[1:3])
    operator = build_operator(DEGRADATION, height, width, {})
    prior = BoundPrior(LatentModel.from_pretrained("embedded", precision="fp32"))
    spec = as_in_jobs(DEGRADATION, {"name": "dpir"})
    solver = build_solver(spec, operator, measurement_sigma(DEGRADATION), prior)
    assert isinstance(solver, Dpir)
    return solver


def halved_and_noisy(truth: Frames) -> Frames:
    """Block means of uint8 [n, h, w, 3] with the noise that the job is told of, rounded to 8 bits."""
    import torch.nn.functional as F

    small = unsigned(F.avg_pool2d(signed(truth.astype(np.float32) / np.float32(255.0)), 2))
    noise = np.random.Generator(np.random.PCG64(_SEED)).standard_normal(small.shape)
    noisy = small + DEGRADATION["noise"] * noise
    codes: Frames = np.rint(np.clip(noisy, 0.0, 1.0) * 255.0).astype(np.uint8)
    return codes


def db(pictures: Frames, truth: Frames) -> float:
    """PSNR of uint8 pictures [n, h, w, 3], all values together."""
    return psnr(pictures.astype(np.float32) / np.float32(255.0), truth.astype(np.float32) / np.float32(255.0))
