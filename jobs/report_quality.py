"""Figures of a published video against its source along its length, on reduced pictures, without a model.

They are for looking at, not for comparing methods: `reelweave bench consistency` measures whole clips.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jobs.charts import Chart, Curve, draw
from jobs.frames import Rgb
from jobs.report_spans import Clip, open_clip, read_span, spans_of

if TYPE_CHECKING:
    from pipeline.manifest import ChunkRow
    from pipeline.style_pictures import StylePictures

#: The promise: errors of pairs across borders over the others, divided by the same of the source.
BOUND = 1.05
_STYLE_EVERY = 4
_EQUAL_DB = 60.0


@dataclass(frozen=True)
class Borders:
    """Frames of one video that begin a chunk or are knots (``firsts``), and that begin a scene (``cuts``)."""

    firsts: frozenset[int]
    cuts: frozenset[int]


@dataclass(frozen=True)
class Quality:
    """Charts, and their means as (name, value)."""

    charts: tuple[Chart, ...]
    figures: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Pair:
    """Frames ``ordinal`` and the next: E_warp of the source and of the output, along the source's motion."""

    ordinal: int
    source: float
    output: float


def borders_of(rows: Sequence[ChunkRow], video_uri: str) -> Borders:
    """Where chunks, knots and scenes of a video begin, as its units' manifest rows tell."""
    chunks = sorted(
        (r for r in rows if r.video_uri == video_uri and r.level == "chunk"), key=lambda r: r.first
    )
    cuts = {row.first for before, row in itertools.pairwise(chunks) if before.scene != row.scene}
    firsts = {row.first for row in chunks} | {int(k) for row in chunks for k in row.metrics.get("knots", ())}
    return Borders(frozenset(firsts - cuts), frozenset(cuts))


def measure(
    before: str, after: str, borders: Borders, style: StylePictures | None, frames: int
) -> Quality:
    """Measure about ``frames`` frames of two local videos, against the references ``style`` where there are
    any.

    Raises SourceError when one of them is no video; nothing is measured where they differ in length.
    """
    source, output = open_clip(before), open_clip(after)
    if len(source.times) != len(output.times):
        return Quality((), ())
    pairs: list[_Pair] = []
    fidelity: list[tuple[int, float]] = []
    distances: list[tuple[int, float, float]] = []
    for span in spans_of(len(source.times), frames):
        theirs = read_span(source, span)
        if not theirs:
            continue
        height, width = next(iter(theirs.values())).shape[:2]
        ours = read_span(output, span, (width, height))
        both = sorted(theirs.keys() & ours.keys())
        fidelity += [(t, _psnr(ours[t], theirs[t])) for t in both]
        pairs += [
            _pair(t, theirs, ours)
            for t in both
            if t + 1 in theirs and t + 1 in ours and t + 1 not in borders.cuts
        ]
        if style is not None:
            distances += _style_distances(both[::_STYLE_EVERY], theirs, ours, style)
    shown = _Shown(source, 3.0 * source.seconds_per_frame)
    kept = [
        *_temporal(pairs, borders, shown),
        (
            shown.chart("Fidelity", [("output", fidelity)], unit="dB of PSNR to the source", from_zero=False),
            ("PSNR to the source, dB", _mean([db for _, db in fidelity])),
        ),
        (
            shown.chart(
                "Style distance",
                [
                    ("source", [(t, d) for t, d, _ in distances]),
                    ("output", [(t, d) for t, _, d in distances]),
                ],
                unit="chi-square of Lab histograms to the reference",
            ),
            ("style distance", _mean([d for _, _, d in distances])),
        ),
    ]
    return Quality(
        tuple(chart for chart, _ in kept if chart is not None),
        tuple((name, f"{value:.4g}") for _, (name, value) in kept if math.isfinite(value)),
    )


@dataclass(frozen=True)
class _Shown:
    """Draws values by ordinal over the seconds of a clip."""

    clip: Clip
    gap: float

    def chart(
        self,
        title: str,
        curves: Sequence[tuple[str, Sequence[tuple[int, float]]]],
        *,
        unit: str,
        dots: bool = False,
        note: str = "",
        bound: float | None = None,
        from_zero: bool = True,
    ) -> Chart | None:
        """None where there is nothing to show. Style is measured at every few frames, so gaps are wider."""
        gap = self.gap * _STYLE_EVERY
        drawn = [
            Curve(label, tuple((self.clip.seconds(t), value) for t, value in values), dots, gap)
            for label, values in curves
        ]
        return draw(title, drawn, unit=unit, note=note, bound=bound, from_zero=from_zero)


def _temporal(
    pairs: Sequence[_Pair], borders: Borders, shown: _Shown
) -> Iterator[tuple[Chart | None, tuple[str, float]]]:
    from operators.metrics.boundary import boundary_index
    from operators.metrics.warp_error import mean_of

    yield (
        shown.chart(
            "E_warp",
            [
                ("source", [(pair.ordinal, 1e3 * pair.source) for pair in pairs]),
                ("output", [(pair.ordinal, 1e3 * pair.output) for pair in pairs]),
            ],
            unit="x 1e-3 along the source's motion",
        ),
        ("E_warp, x 1e-3", 1e3 * mean_of([pair.output for pair in pairs])),
    )
    ours, theirs = [pair.output for pair in pairs], [pair.source for pair in pairs]
    places = [at for at, pair in enumerate(pairs) if pair.ordinal + 1 in borders.firsts]

    def index(among: Sequence[int]) -> float:
        """Boundary index of the output over the source's, of the borders ``among`` alone."""
        known = [(_without(errors, set(places) - set(among))) for errors in (ours, theirs)]
        output, own = (boundary_index(errors, among) for errors in known)
        return output / own if own > 0 else math.nan

    single = [(pairs[at].ordinal, index([at])) for at in places]
    yield (
        shown.chart(
            "Boundary index",
            [("pair across the beginning of a chunk, or at a knot", single)],
            unit="over the source's own",
            dots=True,
            bound=BOUND,
            note=f"The line is the bound for their mean, {BOUND}. Single pairs scatter around it.",
        ),
        ("boundary index over the source's", index(places)),
    )


def _without(errors: Sequence[float], places: set[int]) -> list[float]:
    return [math.nan if at in places else error for at, error in enumerate(errors)]


def _pair(ordinal: int, theirs: Mapping[int, Rgb], ours: Mapping[int, Rgb]) -> _Pair:
    from operators.flow.motion import motion_between
    from operators.metrics.warp_error import warp_error

    motion = motion_between(theirs[ordinal], theirs[ordinal + 1])
    source, output = (warp_error(video[ordinal], video[ordinal + 1], motion) for video in (theirs, ours))
    return _Pair(ordinal, source, output)


def _psnr(output: Rgb, source: Rgb) -> float:
    """PSNR in dB over RGB, at most `_EQUAL_DB`."""
    mse = float(np.square(output.astype(np.float64) - source).mean())
    return _EQUAL_DB if mse == 0 else min(_EQUAL_DB, 10.0 * math.log10(255.0**2 / mse))


def _style_distances(
    ordinals: Sequence[int], theirs: Mapping[int, Rgb], ours: Mapping[int, Rgb], style: StylePictures
) -> list[tuple[int, float, float]]:
    from operators.metrics.lab_histogram import chi_square, lab_histogram, mixed_histogram

    wanted = mixed_histogram(style.pictures, style.weights)
    return [
        (t, chi_square(lab_histogram(theirs[t]), wanted), chi_square(lab_histogram(ours[t]), wanted))
        for t in ordinals
    ]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
