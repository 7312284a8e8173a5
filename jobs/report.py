"""The report of a run: one self-contained HTML page with pictures, figures and the quarantine list."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.console import DONE, quiet_stdout, say
from jobs.outputs import open_output
from pipeline.errors import ReelweaveError, SpecError
from pipeline.redact import redacted
from pipeline.settings import StorageSettings

if TYPE_CHECKING:
    from pipeline.manifest import VideoRow
    from pipeline.store import Store

_SHARES = (0.12, 0.5, 0.88)
# Reports stay small: pictures of this many videos, and of files up to this size.
_MAX_VIDEOS = 12
_MAX_BYTES = 512 << 20


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
    """The same moment of several videos side by side."""

    caption: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class VideoSection:
    """What the page says about one published video; ``note`` tells why pictures are missing."""

    title: str
    facts: tuple[tuple[str, str], ...]
    moments: tuple[Moment, ...]
    note: str = ""


@dataclass(frozen=True)
class ReportPage:
    """Everything on the page. ``quarantined`` holds (video, code, error)."""

    title: str
    run_id: str
    facts: tuple[tuple[str, str], ...]
    measures: tuple[Measures, ...]
    videos: tuple[VideoSection, ...]
    more_videos: int
    quarantined: tuple[tuple[str, str, str], ...]
    versions: tuple[tuple[str, str], ...]
    job_yaml: str


def command(out: str, endpoint_url: str | None) -> int:
    """Write the report of the newest run again, from the store."""
    from jobs.status import plan_paths
    from pipeline.manifest import read_video_rows

    with quiet_stdout():
        store = open_output(out, endpoint_url)
        plans = plan_paths(store)
        if not plans:
            raise SpecError(f"{store.root}: no job has written here; give the output of a job", field="OUT")
        uri = write_report(store, plans[-1].split("/")[1], read_video_rows(store))
    say(f"wrote {uri}")
    return DONE


def write_report(
    store: Store,
    run_id: str,
    rows: Sequence[VideoRow],
    *,
    columns: Mapping[str, Sequence[tuple[str, str]]] | None = None,
    measures: Sequence[Measures] = (),
) -> str:
    """Write ``runs/<run_id>/report.html`` and return its URI.

    ``columns`` replaces, by video URI, the pictures shown (before | after) with (label, local path)
    columns; ``measures`` are tables to show. Raises StoreError when the page cannot be stored.
    """
    page = build_page(store, run_id, rows, columns or {}, tuple(measures))
    path = f"runs/{run_id}/report.html"
    store.put(path, redacted(render_report(page)).encode("utf-8", "replace"))
    return store.uri(path)


def render_report(page: ReportPage) -> str:
    """The page as HTML."""
    return render("report.html.j2", page=page)


def render(template: str, **facts: Any) -> str:
    """A template of this package as HTML; every text is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("jobs"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**facts)


def build_page(
    store: Store,
    run_id: str,
    rows: Sequence[VideoRow],
    columns: Mapping[str, Sequence[tuple[str, str]]],
    measures: tuple[Measures, ...],
) -> ReportPage:
    """Collect what the page says from the manifest rows and the run's files."""
    done = [row for row in rows if row.status == "done"]
    refused = [row for row in rows if row.status == "quarantined"]
    metrics = _json_object(store, f"runs/{run_id}/metrics.json")
    job_yaml = _text(store, f"runs/{run_id}/job.yaml")
    versions: dict[str, str] = {}
    for row in done:
        versions.update({str(name): str(value) for name, value in row.versions.items()})
    facts = [
        ("videos done", str(len(done))),
        ("quarantined", str(len(refused))),
        ("frames", f"{sum(row.frames for row in done):,}"),
        *_figures(metrics),
    ]
    return ReportPage(
        title=_job_name(job_yaml) or "reelweave",
        run_id=run_id,
        facts=tuple(facts),
        measures=measures,
        videos=tuple(_section(store, row, columns.get(row.video_uri)) for row in done[:_MAX_VIDEOS]),
        more_videos=max(0, len(done) - _MAX_VIDEOS),
        quarantined=tuple((row.video_uri, row.code, row.error) for row in refused),
        versions=tuple(sorted(versions.items())),
        job_yaml=job_yaml,
    )


def moments(columns: Sequence[tuple[str, str]]) -> tuple[Moment, ...]:
    """Three moments of (label, local path) videos; the first one is the clock.

    Raises SourceError when a video does not decode.
    """
    from jobs.frames import jpeg_uri, shots_at, shots_at_shares

    clock = shots_at_shares(columns[0][1], _SHARES)
    times = [shot.seconds for shot in clock]
    rows = [clock, *(shots_at(path, times) for _, path in columns[1:])]
    labels = [label for label, _ in columns]
    return tuple(
        Moment(
            f"{float(times[at]):.2f} s",
            tuple(Picture(label, jpeg_uri(row[at].rgb)) for label, row in zip(labels, rows, strict=True)),
        )
        for at in range(len(times))
    )


def _section(store: Store, row: VideoRow, columns: Sequence[tuple[str, str]] | None) -> VideoSection:
    shown: tuple[Moment, ...] = ()
    note = ""
    try:
        with ExitStack() as files:
            if columns is None:
                columns = [
                    ("before", _local_copy(files, row.video_uri, store.storage)),
                    ("after", _local_copy(files, store.uri(row.output_rel), store.storage)),
                ]
            shown = moments(columns)
    except (ReelweaveError, OSError) as error:
        note = f"No pictures: {error}"
    facts = [
        ("source", row.video_uri),
        ("output", row.output_uri),
        ("frames", str(row.frames)),
        ("frames md5", row.frames_md5),
        *_figures(row.metrics),
        *(("warning", text) for text in row.warnings),
        *(("dropped stream", text) for text in row.dropped_streams),
    ]
    return VideoSection(row.output_rel, tuple(facts), shown, note)


def _local_copy(files: ExitStack, uri: str, storage: StorageSettings) -> str:
    """A local path with the bytes of ``uri``; copies live until ``files`` closes."""
    from pipeline.filesystem import is_local, local_path, open_filesystem, typed_errors

    if is_local(uri):
        return local_path(uri)
    filesystem, path = open_filesystem(uri, storage)
    folder = files.enter_context(tempfile.TemporaryDirectory(prefix="reelweave-report-"))
    target = str(Path(folder) / "video")
    with typed_errors(uri, "read it for the report"):
        size = int(filesystem.size(path) or 0)
        if size > _MAX_BYTES:
            raise SpecError(f"{uri} is larger than {_MAX_BYTES >> 20} MiB", field="OUT")
        filesystem.get_file(path, target)
    return target


def _text(store: Store, path: str) -> str:
    return store.read(path).decode("utf-8", "replace") if store.exists(path) else ""


def _json_object(store: Store, path: str) -> dict[str, Any]:
    try:
        found = json.loads(_text(store, path) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _job_name(job_yaml: str) -> str:
    first = next((line for line in job_yaml.splitlines() if line.startswith("name:")), "")
    return first.partition(":")[2].strip().strip("'\"")


_SAID_ELSEWHERE = ("run_id", "videos", "done", "quarantined", "frames", "name")


def _figures(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of the single figures and words among ``metrics``."""
    return [
        (str(name).replace("_", " "), f"{value:,.4g}" if isinstance(value, float) else str(value))
        for name, value in metrics.items()
        if name not in _SAID_ELSEWHERE and isinstance(value, int | float | str)
    ]
