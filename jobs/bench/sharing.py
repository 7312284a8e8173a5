"""`bench sharing`: what each way of sharing attention does to a video, with the embedded model.

Every frame is noised to one level with its keyed noise and brought back in a few steps; the policies differ
only in what a frame's self-attention reads besides itself. References are read almost clean, as the model was
trained to. Flicker is the warp error in excess of the source's own, along the source's motion.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jobs.bench.clips import clips_below, first_frames
from jobs.bench.result import BenchResult, Target
from jobs.console import say
from jobs.demo.demo import TRUTH
from pipeline.errors import SpecError

if TYPE_CHECKING:
    from torch import Tensor

    from operators.attention.harvest import Harvest
    from operators.attention.reading import Reader

Frames = NDArray[np.uint8]

FRAMES, SIDE, INTERVAL, ANCHORS = 33, 128, 8, 2
NOISE_LEVEL, STEPS, RHO = 500, 6, 0.8
POLICIES = ("independent", "chunk_first", "chunk_joint", "anchors", "knots_hard", "knots")
#: Mean difference in codes between two videos that count as visibly different; hard and hat weights differ
#: only in the frames between knots.
VISIBLE_CODES, VISIBLE_CODES_OF_HATS = 1.0, 0.25


def run(quick: bool, pictures: Path | None = None) -> BenchResult:
    """All clips below ``pictures`` (the bundled clip without it); ``quick`` takes 17 frames."""
    clips = [TRUTH] if pictures is None else clips_below(pictures)
    if not clips:
        raise SpecError(f"--pictures: no clip below {pictures}", field="--pictures")
    rows: list[dict[str, Any]] = []
    targets: list[Target] = []
    for clip in clips:
        source = _centre(first_frames(clip, INTERVAL * 2 + 1 if quick else FRAMES), SIDE)
        videos = _render_all(clip.name, source)
        measured = _measure(clip.stem, source, videos)
        rows += measured
        apart = {frozenset(p): _codes(videos[p[0]], videos[p[1]]) for p in combinations(POLICIES, 2)}
        of_hats = apart.pop(frozenset(("knots", "knots_hard")))
        by_name = {row["policy"]: row for row in measured}
        calmer = by_name["independent"]["excess_x1e3"] / max(by_name["knots"]["excess_x1e3"], 1e-9)
        targets += [
            Target(f"{clip.stem}: codes between policies", round(min(apart.values()), 2), VISIBLE_CODES),
            Target(f"{clip.stem}: codes from hard to hat weights", round(of_hats, 2), VISIBLE_CODES_OF_HATS),
            Target(f"{clip.stem}: flicker of independent frames over knots", round(calmer, 3), 1.1),
        ]
    return BenchResult("sharing", tuple(rows), tuple(targets))


def _render_all(name: str, source: Frames) -> dict[str, Frames]:
    videos = {}
    with contextlib.closing(_Sharer(source)) as sharer:
        for policy in POLICIES:
            say(f"{name}: {policy}")
            videos[policy] = sharer.render(policy)
    return videos


@dataclass(frozen=True)
class _Reference:
    """Harvests of finished pictures, and the weight of each (None: full)."""

    harvest: Harvest
    weight: float | None = None


class _Sharer:
    """SDEdit of one clip under any of the policies; references are finished before the frames that read
    them and kept as clean latents."""

    def __init__(self, source: Frames) -> None:
        import torch

        from operators.attention.install import install
        from operators.models import BoundPrior, LatentModel
        from operators.noise import frame_noise
        from operators.pictures import to_tensor

        torch.set_num_threads(1)
        self.model = LatentModel.from_pretrained("embedded", precision="fp32")
        self._resources = contextlib.ExitStack()
        self.session = self._resources.enter_context(install(self.model.unet))
        self.prior = BoundPrior(self.model, listener=self.session)
        with torch.no_grad():
            self.z0 = torch.cat([self.prior.encode(to_tensor(frame[None])) for frame in source])
        self.noise = [
            frame_noise(
                tuple(self.z0.shape[1:]),
                seed=0,
                source_digest="bench",
                scene=0,
                frame=i,
                purpose="sharing",
                rho=RHO,
            )
            for i in range(len(source))
        ]
        self.count = len(source)

    def close(self) -> None:
        """Give the network its own attention back."""
        self._resources.close()

    def render(self, policy: str) -> Frames:
        """The clip under one policy, uint8 [N, H, W, 3]."""
        import torch

        from operators.pictures import to_pictures

        with torch.no_grad():
            latents = getattr(self, f"_{policy}")()
            pictures = [to_pictures(self.prior.decode(z), np.dtype(np.uint8)) for z in latents]
        return np.concatenate(pictures)

    def _independent(self) -> list[Tensor]:
        return [self._frame(i, []) for i in range(self.count)]

    def _chunk_first(self) -> list[Tensor]:
        latents: list[Tensor] = []
        for i in range(self.count):
            first = i - i % INTERVAL
            latents.append(self._frame(i, [] if i == first else [_Reference(self._harvest(latents[first]))]))
        return latents

    def _chunk_joint(self) -> list[Tensor]:
        latents: list[Tensor] = []
        for first in range(0, self.count, INTERVAL):
            rows = range(first, min(first + INTERVAL, self.count))
            done = self._edit(rows, [], joint=True)
            latents += [done[at : at + 1] for at in range(len(rows))]
        return latents

    def _anchors(self) -> list[Tensor]:
        at, joint = self._joint_anchors()
        bank = [_Reference(self._harvest(joint))]
        return [joint[at.index(i)][None] if i in at else self._frame(i, bank) for i in range(self.count)]

    def _knots_hard(self) -> list[Tensor]:
        return self._between_knots(hard=True)

    def _knots(self) -> list[Tensor]:
        return self._between_knots(hard=False)

    def _between_knots(self, *, hard: bool) -> list[Tensor]:
        from operators.attention.hat import bracket

        at, joint = self._joint_anchors()
        anchors = _Reference(self._harvest(joint))
        grid = sorted({*range(0, self.count, INTERVAL), self.count - 1})
        knots = {i: joint[at.index(i)][None] if i in at else self._frame(i, [anchors]) for i in grid}
        harvests = {i: self._harvest(z) for i, z in knots.items()}
        latents = []
        for i in range(self.count):
            if i in knots:
                latents.append(knots[i])
                continue
            between = bracket(i, grid, hard=hard)
            pair = [
                _Reference(harvests[between.left], between.left_weight),
                _Reference(harvests[between.right], between.right_weight),
            ]
            latents.append(self._frame(i, [anchors, *pair]))
        return latents

    def _joint_anchors(self) -> tuple[list[int], Tensor]:
        at = [round(i * (self.count - 1) / (ANCHORS - 1)) for i in range(ANCHORS)]
        # Anchors sit on knots, as in jobs.
        at = sorted({min(round(i / INTERVAL) * INTERVAL, self.count - 1) for i in at})
        return at, self._edit(at, [], joint=True)

    def _harvest(self, z0: Tensor) -> Harvest:
        from operators.metrics.reference_table import REFERENCE_TIMESTEP
        from operators.noise import keyed_normal

        t = REFERENCE_TIMESTEP
        ab = self.model.alphas_cumprod[t]
        z = ab.sqrt() * z0 + (1 - ab).sqrt() * keyed_normal(tuple(z0.shape), "bench reference")
        return self.session.harvest(lambda: self.prior.predict(z, t))

    def _frame(self, i: int, bank: Sequence[_Reference]) -> Tensor:
        return self._edit([i], bank, joint=False)

    def _edit(self, rows: Sequence[int], bank: Sequence[_Reference], *, joint: bool) -> Tensor:
        import torch

        from operators.attention.bias import log_weight
        from operators.attention.reading import Reader
        from operators.solvers.ddim import ddim_step

        alphas = self.model.alphas_cumprod
        timesteps = [round(NOISE_LEVEL * (STEPS - n) / STEPS) for n in range(STEPS)]
        readers: list[Reader] = [
            Reader(reference.harvest)
            if reference.weight is None
            else Reader(reference.harvest, row_bias=log_weight(torch.tensor([reference.weight])))
            for reference in bank
        ]
        ab = alphas[timesteps[0]]
        z = ab.sqrt() * self.z0[list(rows)] + (1 - ab).sqrt() * torch.stack([self.noise[i] for i in rows])
        for t, following in zip(timesteps, [*timesteps[1:], 0], strict=True):
            with self.session.reading(readers, joint=joint):
                prediction = self.prior.predict(z, t)
            z = ddim_step(prediction, alphas[following]) if following else prediction.z0
        return z


def _measure(name: str, source: Frames, videos: dict[str, Frames]) -> list[dict[str, Any]]:
    from operators.metrics.temporal import boundary_index, motions, warp_errors

    along = motions(source)
    own = warp_errors(source, along)
    borders = set(range(INTERVAL, len(source), INTERVAL))
    rows = []
    for policy, video in {"source": source, **videos}.items():
        errors = warp_errors(video, along)
        rows.append(
            {
                "clip": name,
                "policy": policy,
                "warp_error_x1e3": round(float(errors.mean()) * 1e3, 3),
                "excess_x1e3": round(float((errors - own).mean()) * 1e3, 3),
                "boundary_index": round(boundary_index(errors, borders), 3),
                "psnr_to_source_db": round(_psnr(video, source), 2),
                "codes_from_independent": round(_codes(video, videos["independent"]), 2),
            }
        )
    return rows


def _codes(a: Frames, b: Frames) -> float:
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())


def _psnr(a: Frames, b: Frames) -> float:
    mse = float(((a.astype(np.float64) - b) ** 2).mean())
    return 99.0 if mse == 0 else 10.0 * float(np.log10(255.0**2 / mse))


def _centre(frames: Frames, side: int) -> Frames:
    y, x = (frames.shape[1] - side) // 2, (frames.shape[2] - side) // 2
    return np.ascontiguousarray(frames[:, y : y + side, x : x + side])
