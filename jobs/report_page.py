"""What stands on the page of a report, as plain values; `jobs/templates` lays them out."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.charts import Chart
from jobs.report_run import Timeline


@dataclass(frozen=True)
class Measures:
    """A table of figures; the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """One picture as a ``data:`` URI."""

    label: str
    uri: str


@dataclass(frozen=True)
class Moment:
    """The same moment of several videos: a slider between the first two, and all side by side if there are
    more."""

    caption: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class VideoSection:
    """What the page says about one published video; ``note`` tells why pictures are missing, ``figures`` are
    measured for the page and ``charts`` show them over time."""

    title: str
    facts: tuple[tuple[str, str], ...]
    moments: tuple[Moment, ...]
    note: str = ""
    figures: tuple[tuple[str, str], ...] = ()
    charts: tuple[Chart, ...] = ()
    thumbnail: str = ""


@dataclass(frozen=True)
class Refusal:
    """A quarantined video and why."""

    uri: str
    code: str
    error: str
    stage: str
    attempts: int
    node: str


@dataclass(frozen=True)
class ReportPage:
    """Everything on the page. ``listed`` are done videos beyond those with a section of their own, ``left``
    planned ones that are neither done nor quarantined, ``runs`` the last ones, in the columns of
    `jobs.runs`."""

    title: str
    run_id: str
    facts: tuple[tuple[str, str], ...]
    measures: tuple[Measures, ...]
    videos: tuple[VideoSection, ...]
    listed: tuple[str, ...]
    more_videos: int
    left: tuple[str, ...]
    quarantined: tuple[Refusal, ...]
    throughput: Chart | None
    timeline: Timeline | None
    digests: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    job_yaml: str
    runs: tuple[tuple[str, ...], ...] = ()

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of all figures of videos, each once."""
        return tuple(dict.fromkeys(name for video in self.videos for name, _ in video.figures))
