"""The part of a report on one published video: pictures before and after, figures over its length, facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from jobs.charts import Chart
from jobs.local_copy import local_copy
from jobs.report_page import Moment, Picture, VideoSection
from pipeline.errors import ReelweaveError

if TYPE_CHECKING:
    from jobs.report_quality import Borders, Quality
    from pipeline.manifest import VideoRow
    from pipeline.store import Store
    from pipeline.style_pictures import StylePictures

_SHARES = (0.12, 0.5, 0.88)
_THUMBNAIL = 120
# Reports stay small: pictures of files up to this size.
_MAX_BYTES = 512 << 20
_SAID_ELSEWHERE = ("run_id", "videos", "done", "quarantined", "frames", "name")


def section_of(
    store: Store,
    row: VideoRow,
    columns: Sequence[tuple[str, str]] | None,
    borders: Borders,
    style: StylePictures | None,
    measured_frames: int,
) -> VideoSection:
    """Everything about one done video. ``columns``: (label, local path) to show instead of before and after.

    A video that cannot be read or is too large leaves a note instead of pictures.
    """
    from jobs.report_quality import measure

    shown: tuple[Moment, ...] = ()
    quality: Quality | None = None
    thumbnail = note = ""
    try:
        with ExitStack() as files:
            before = local_copy(files, row.video_uri, store.storage, _MAX_BYTES)
            after = local_copy(files, store.uri(row.output_rel), store.storage, _MAX_BYTES)
            shown, thumbnail = moments(columns or [("before", before), ("after", after)])
            quality = measure(before, after, borders, style, measured_frames)
    except (ReelweaveError, OSError) as error:
        note = f"No pictures: {error}" if not shown else f"No figures: {error}"
    charts: tuple[Chart, ...] = () if quality is None else quality.charts
    facts = [
        ("source", row.video_uri),
        ("output", row.output_uri),
        ("frames", str(row.frames)),
        *_digests(row),
        *figures(row.metrics),
        *figures({name: told for name, told in row.metrics.get("provenance", {}).items() if told != ""}),
        *(("warning", text) for text in row.warnings),
        *(("dropped stream", text) for text in row.dropped_streams),
    ]
    return VideoSection(
        row.output_rel,
        tuple(facts),
        shown,
        note,
        () if quality is None else quality.figures,
        charts,
        thumbnail,
    )


def moments(columns: Sequence[tuple[str, str]]) -> tuple[tuple[Moment, ...], str]:
    """Three moments of (label, local path) videos, of which the first is the clock, and a thumbnail of the
    second.

    Raises SourceError when a video does not decode.
    """
    from jobs.frames import jpeg_uri, shots_at, shots_at_shares

    clock = shots_at_shares(columns[0][1], _SHARES)
    times = [shot.seconds for shot in clock]
    rows = [clock, *(shots_at(path, times) for _, path in columns[1:])]
    labels = [label for label, _ in columns]
    found = tuple(
        Moment(
            f"{float(times[at]):.2f} s",
            tuple(Picture(label, jpeg_uri(row[at].rgb)) for label, row in zip(labels, rows, strict=True)),
        )
        for at in range(len(times))
    )
    return found, jpeg_uri(rows[-1][len(times) // 2].rgb, max_width=_THUMBNAIL, quality=80)


def figures(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of the single figures and words among ``metrics``."""
    return [
        (str(name).replace("_", " "), f"{value:,.4g}" if isinstance(value, float) else str(value))
        for name, value in metrics.items()
        if name not in _SAID_ELSEWHERE and isinstance(value, int | float | str)
    ]


def _digests(row: VideoRow) -> list[tuple[str, str]]:
    named = {
        "source SHA-256": row.source_digest,
        "output SHA-256": row.output_sha256,
        "decoded frames MD5": row.frames_md5,
        "timestamps SHA-256": row.pts_sha256,
        "content key": row.video_key,
    }
    return [(name, value) for name, value in named.items() if value]
