"""`reelweave report`: one self-contained HTML page about a run: pictures, figures, and what was refused."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jobs.console import DONE, print_json, quiet_stdout, say
from jobs.outputs import open_output
from jobs.report_page import Measures, Refusal, ReportPage
from jobs.report_run import rows_of_run, throughput, timeline
from jobs.report_videos import figures, section_of
from jobs.runs import COLUMNS, cells
from pipeline.errors import ReelweaveError, SpecError
from pipeline.redact import redacted

if TYPE_CHECKING:
    from pipeline.manifest import VideoRow
    from pipeline.store import Store
    from pipeline.style_pictures import StylePictures

__all__ = ["Measures", "ReportPage", "command", "render_report", "write_report"]

# Reports stay small: sections with pictures of this many videos, names of this many more.
_MAX_VIDEOS = 12
_MAX_LISTED = 500
_MAX_RUNS = 20
#: Frames that are measured, over all videos with a section.
_MEASURED = 240


def command(out: str, endpoint_url: str | None, as_json: bool = False) -> int:
    """Write the report of the newest run again, from the store."""
    from jobs.status import plan_paths
    from pipeline.manifest import read_video_rows

    with quiet_stdout():
        store = open_output(out, endpoint_url)
        plans = plan_paths(store)
        if not plans:
            raise SpecError(f"{store.root}: no job has written here; give the output of a job", field="OUT")
        uri = write_report(store, plans[-1].split("/")[1], read_video_rows(store))
    if as_json:
        print_json({"report": uri})
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
    """The page as HTML; every text is escaped, and no script but the page's own runs in it."""
    script = files("jobs.templates").joinpath("report.js").read_text(encoding="utf-8")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return render("report.html.j2", page=page, script=script, allowed=allowed, run_columns=COLUMNS)


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
    from jobs.report_quality import borders_of
    from pipeline.manifest import read_chunk_rows
    from pipeline.run_history import read_runs

    done = [row for row in rows if row.status == "done"]
    refused = [row for row in rows if row.status == "quarantined"]
    left = _left(store, run_id, {row.video_uri for row in rows})
    metrics = _json_object(store, f"runs/{run_id}/metrics.json")
    job_yaml = _text(store, f"runs/{run_id}/job.yaml")
    chunks = read_chunk_rows(store)
    of_run = rows_of_run(chunks, run_id, metrics.get("seconds"))
    style = _last_style(store, job_yaml)
    shown = done[:_MAX_VIDEOS]
    versions: dict[str, str] = {}
    for row in done:
        versions.update({str(name): str(value) for name, value in row.versions.items()})
    facts = [
        ("videos done", str(len(done))),
        ("quarantined", str(len(refused))),
        *([("left", str(len(left)))] if left else []),
        ("frames", f"{sum(row.frames for row in done):,}"),
        *figures(metrics),
    ]
    return ReportPage(
        title=_job_name(job_yaml) or "reelweave",
        run_id=run_id,
        facts=tuple(facts),
        measures=measures,
        videos=tuple(
            section_of(
                store,
                row,
                columns.get(row.video_uri),
                borders_of(chunks, row.video_uri),
                style,
                _MEASURED // len(shown),
            )
            for row in shown
        ),
        listed=tuple(row.output_rel for row in done[_MAX_VIDEOS : _MAX_VIDEOS + _MAX_LISTED]),
        more_videos=max(0, len(done) - _MAX_VIDEOS),
        left=tuple(left[:_MAX_LISTED]),
        quarantined=tuple(
            Refusal(row.video_uri, row.code, row.error, row.stage, row.attempts, row.node) for row in refused
        ),
        throughput=throughput(of_run),
        timeline=timeline(of_run),
        digests=_digests(job_yaml, done),
        versions=tuple(sorted(versions.items())),
        job_yaml=job_yaml,
        runs=tuple(cells(row) for row in read_runs(store)[-_MAX_RUNS:]),
    )


def _left(store: Store, run_id: str, known: set[str]) -> list[str]:
    """Videos that the run planned and that are neither done nor quarantined."""
    from jobs.status import planned_videos

    path = f"runs/{run_id}/plan.json"
    return sorted(set(planned_videos(store, path)) - known) if store.exists(path) else []


def _digests(job_yaml: str, done: Sequence[VideoRow]) -> tuple[tuple[str, str], ...]:
    """Digests of what all videos have in common; more than one value where they were made by several jobs."""
    named = {
        "job file SHA-256": {hashlib.sha256(job_yaml.encode()).hexdigest()} if job_yaml else set(),
        "spec": {row.spec_digest for row in done},
        "model": {row.model_digest for row in done},
        "style references": {row.style_digest for row in done},
    }
    return tuple((name, ", ".join(sorted(values - {""}))) for name, values in named.items() if values - {""})


def _last_style(store: Store, job_yaml: str) -> StylePictures | None:
    """The references of the job's last stylization; None without one, or where it can no longer be read."""
    from jobs.spec import parse_spec
    from jobs.yaml_source import parse_yaml
    from pipeline.pictures import load_pictures

    try:
        settings = parse_spec(parse_yaml(job_yaml, field="job.yaml", origin="job.yaml") or {}).to_settings()
        styles = load_pictures(settings).styles
    except ReelweaveError:
        return None
    return styles[max(styles)] if styles else None


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
