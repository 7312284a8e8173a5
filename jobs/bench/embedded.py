"""The embedded model through the product's own solvers, as `bench prior` drives it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.bench.baselines import Mask, Picture
from jobs.bench.samples import Sample

Pictures = NDArray[np.float32]

#: Pairs of the reference table: sides in pixels, and how far the partner may be displaced.
PAIR_SIDE, PAIR_SHIFT = 128, 16
#: Timed evaluations of the network, after one to warm up.
TIMED = 7


class Embedded:
    """Pictures [n, h, w, 3] on [0, 1] in and out, unclipped; float32 on one CPU device."""

    def __init__(self) -> None:
        from operators.models import BoundPrior, LatentModel

        self.model = LatentModel.from_pretrained("embedded", device="cpu", precision="fp32")
        self._prior = BoundPrior(self.model)

    def round_trip(self, pictures: Pictures) -> Pictures:
        """Encoded and decoded."""
        import torch

        with torch.no_grad():
            return _from_signed(self.model.decode(self.model.encode(_to_signed(pictures))))

    def restore(
        self,
        measured: Pictures,
        degradation: Mapping[str, Any],
        assets: Mapping[str, Any],
        solver: Mapping[str, Any],
    ) -> Pictures:
        """What a job with ``degradation`` and ``solver`` makes of ``measured`` pictures."""
        import torch

        from operators.degradations.registry import build_operator, measurement_sigma
        from operators.noise import keyed_normal
        from operators.solvers.registry import build_solver

        y = _to_signed(measured)
        scale = int(degradation.get("scale", 1))
        height, width = y.shape[2] * scale, y.shape[3] * scale
        operator = build_operator(degradation, height, width, assets)
        method = build_solver(solver, operator, measurement_sigma(degradation), self._prior)
        factor = self.model.vae_factor
        latent = (len(y), self.model.latent_channels, height // factor, width // factor)
        with torch.no_grad():
            state = method.start(y, keyed_normal(latent, "bench prior", "start"), self._prior)
            for i in range(len(method.timesteps)):
                state = method.step(i, state, self._prior)
            return _from_signed(method.finish(state, self._prior))

    def start_in_holes(self, measured: Pictures, keep: Mask) -> Pictures:
        """Where restoring a hole begins: what it is worth before the model has seen it."""
        from operators.degradations.inpainting import Inpainting
        from operators.solvers.dpir import starting_picture

        return _from_signed(starting_picture(Inpainting(keep), _to_signed(measured)))

    def seconds_per_evaluation(self, side: int) -> float:
        """Median wall time of one network evaluation of one picture of ``side`` pixels."""
        import torch

        cells = side // self.model.vae_factor
        z = torch.zeros(1, self.model.latent_channels, cells, cells)
        times = []
        with torch.no_grad():
            for _ in range(TIMED + 1):
                begun = time.perf_counter()
                self._prior.predict(z, 400)
                times.append(time.perf_counter() - begun)
        return statistics.median(times[1:])

    def reference_rows(self, samples: Sequence[Sample], pairs: int) -> list[dict[str, Any]]:
        """The reference table over ``pairs`` pairs of displaced crops, for sharing in all self-attention
        layers and in the decoder's alone (as jobs do)."""
        import torch

        from operators.attention.install import install
        from operators.metrics.reference_table import reference_table

        crops = [_pair(samples[which], i) for i, which in enumerate(_partners(len(samples), pairs))]
        rows: list[dict[str, Any]] = []
        with torch.no_grad():
            frames, references = (
                torch.cat([self.model.encode(_to_signed(pair[side])) for pair in crops]) for side in (0, 1)
            )
            for layers, decoder_only in (("all", False), ("decoder", True)):
                with install(self.model.unet, decoder_only=decoder_only) as session:
                    table = reference_table(
                        lambda z, t: self._prior.predict(z, t).z0,
                        session,
                        self.model.alphas_cumprod,
                        frames,
                        references,
                    )
                rows += [_reference_row(layers, row) for row in table]
        return rows


def _reference_row(layers: str, row: Any) -> dict[str, Any]:
    return {
        "layers": layers,
        "t": row.timestep,
        "pairs": len(row.none),
        "none": round(float(row.none.mean()), 5),
        "own": round(float(row.own.mean()), 5),
        "foreign": round(float(row.foreign.mean()), 5),
        "own/none": round(row.own_ratio, 4),
        "foreign/own": round(row.foreign_ratio, 4),
    }


def _partners(samples: int, pairs: int) -> list[int]:
    """Which sample each pair is cut from: pair i and its foreign partner i + pairs/2 from different ones."""
    half = pairs // 2
    first = [i % samples for i in range(half)]
    return first + [(which + max(1, samples // 2)) % samples for which in first]


def _pair(sample: Sample, number: int) -> tuple[Pictures, Pictures]:
    """A crop of `PAIR_SIDE` pixels and one displaced by up to `PAIR_SHIFT` along each axis."""
    import torch

    from operators.noise import keyed_generator

    frame = sample.frames[:1].astype(np.float32) / np.float32(255.0)
    generator = keyed_generator("bench prior", "pair", sample.name, number)

    def place(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    corners = []
    for side in frame.shape[1:3]:
        room = side - PAIR_SIDE
        at = place(0, room)
        corners.append((at, place(max(0, at - PAIR_SHIFT), min(room, at + PAIR_SHIFT))))
    (top, other_top), (left, other_left) = corners
    return (
        frame[:, top : top + PAIR_SIDE, left : left + PAIR_SIDE],
        frame[:, other_top : other_top + PAIR_SIDE, other_left : other_left + PAIR_SIDE],
    )


def _to_signed(pictures: Pictures | Picture) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2) * 2.0 - 1.0


def _from_signed(x: Any) -> Pictures:
    pictures: Pictures = ((x + 1.0) / 2.0).permute(0, 2, 3, 1).contiguous().numpy()
    return pictures
