"""All temporal scores of a video against its source, in one pass that holds a handful of frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from operators.flow.dis import dis_flow
from operators.flow.motion import motion_between
from operators.metrics.delta import delta, delta_psnr
from operators.metrics.flicker import Pair, flicker_excess, static_flicker
from operators.metrics.flow_difference import flow_difference
from operators.metrics.unit_range import Frame
from operators.metrics.warp_error import WarpErrors, mean_of


@dataclass(frozen=True)
class TemporalScores:
    """``errors[k]`` are `warp_error` per pair (t, t + k). Means over pairs of: ``static_flicker`` and
    ``flicker_excess`` in codes of 255, ``delta_error`` in codes of 255, ``tof`` in pixels; ``delta_psnr``
    in dB. NaN where nothing could be measured."""

    frames: int
    errors: dict[int, list[float]]
    static_flicker: float
    flicker_excess: float
    delta_error: float
    delta_psnr: float
    tof: float

    def warp_error(self, distance: int = 1) -> float:
        """Mean E_warp on [0, 1] at ``distance`` frames."""
        return mean_of(self.errors[distance])


def temporal_scores(
    source: Iterable[Frame], output: Iterable[Frame], distances: Sequence[int] = (1, 8, 16)
) -> TemporalScores:
    """Stream ``source`` and ``output`` (RGB [H, W, 3], one size, equally many frames) side by side.

    Raises ValueError when one of them ends before the other. Long distances chain the source's motions.
    """
    errors = WarpErrors(distances)
    columns: dict[str, list[float]] = {name: [] for name in ("static", "excess", "error", "mse", "tof")}
    before: tuple[Frame, Frame] | None = None
    frames = 0
    for source_there, there in zip(source, output, strict=True):
        frames += 1
        if before is None:
            errors.add(there, None)
        else:
            source_here, here = before
            motion = motion_between(source_here, source_there)
            errors.add(there, motion)
            pair = Pair(here, there, source_here, source_there)
            change = delta(pair)
            columns["static"].append(static_flicker(pair, motion.flow))
            columns["excess"].append(flicker_excess(pair))
            columns["error"].append(change.error)
            columns["mse"].append(change.mse)
            columns["tof"].append(flow_difference(dis_flow(here, there), motion.flow))
        before = source_there, there
    return TemporalScores(
        frames,
        errors.errors,
        mean_of(columns["static"]),
        mean_of(columns["excess"]),
        mean_of(columns["error"]),
        delta_psnr(columns["mse"]) if columns["mse"] else float("nan"),
        mean_of(columns["tof"]),
    )
