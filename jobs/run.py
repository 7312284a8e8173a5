"""`reelweave run`: runs or resumes a job and says how it ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.console import DONE, QUARANTINED, print_json, quiet_stdout, say, termination_interrupts
from jobs.progress import progress
from jobs.spec import JobSpec, load_spec
from jobs.webhook import posted_at_end
from pipeline.disclosure import disclosure_note
from pipeline.errors import ReelweaveError
from pipeline.job_warnings import job_warnings
from pipeline.redact import redacted
from pipeline.settings import JobSettings

if TYPE_CHECKING:
    from pipeline.events import Event
    from pipeline.graph import RunSummary


def command(
    job: Path,
    overrides: list[str],
    address: str | None,
    only_quarantined: bool,
    max_failures: int | None,
    as_json: bool = False,
    webhook: str | None = None,
) -> int:
    """Run a job file; exit code 0 when all is done, 3 when some videos are quarantined."""
    with posted_at_end(webhook) as told:
        spec = load_spec(job, overrides)
        settings = with_address(spec.to_settings(), address)
        told |= {"name": settings.name, "output": settings.output}
        for warning in job_warnings(settings):
            say(f"warning: {warning}")
        note = disclosure_note(settings)
        if note:
            say(f"provenance: {note}")
        with termination_interrupts(), quiet_stdout():
            with progress() as show:
                summary = run_spec(
                    spec, settings, show, only_quarantined=only_quarantined, max_failures=max_failures
                )
            write_run_report(settings, summary)
        facts, code = summary_json(settings, summary), QUARANTINED if summary.quarantined else DONE
        told |= {"status": "quarantined" if code else "done", "exit_code": code, **facts}
    say_summary(settings, summary)
    if as_json:
        print_json(facts)
    return code


def run_spec(
    spec: JobSpec,
    settings: JobSettings,
    on_event: Callable[[Event], None],
    *,
    only_quarantined: bool = False,
    max_failures: int | None = None,
) -> RunSummary:
    """Run the job. ``settings`` are the spec's, perhaps with another address."""
    from pipeline.graph import run_job

    return run_job(
        settings,
        on_event=on_event,
        only_quarantined=only_quarantined,
        max_failures=max_failures,
        job_yaml=spec.to_yaml(),
    )


def with_address(settings: JobSettings, address: str | None) -> JobSettings:
    """``settings`` with the cluster address of the command line, when one was given."""
    if address is None:
        return settings
    return dataclasses.replace(settings, cluster=dataclasses.replace(settings.cluster, address=address))


def write_run_report(settings: JobSettings, summary: RunSummary) -> None:
    """Write the run's report; the videos are published by now, so a failing report only warns."""
    from jobs.report import write_report
    from pipeline.store import Store

    try:
        write_report(Store(settings.output, settings.storage), summary.run_id, summary.rows)
    except (ReelweaveError, OSError, ValueError) as error:
        say(f"the report could not be written: {error}")


def summary_json(settings: JobSettings, summary: RunSummary) -> dict[str, Any]:
    """The object that ``run --json`` prints: the summary, and where to look."""
    facts = {field.name: getattr(summary, field.name) for field in dataclasses.fields(summary)}
    refused = [row for row in facts.pop("rows") if row.status == "quarantined"]
    root = settings.output.rstrip("/")
    return {
        "name": settings.name,
        **facts,
        "refused": [{"video_uri": r.video_uri, "code": r.code, "error": redacted(r.error)} for r in refused],
        "output": settings.output,
        "report": f"{root}/runs/{summary.run_id}/report.html",
    }


def say_summary(settings: JobSettings, summary: RunSummary) -> None:
    """How the run ended and where to look, on stderr."""
    for row in summary.rows:
        if row.status == "quarantined":
            say(f"quarantined {row.video_uri}: {row.code}: {row.error}")
    say(
        f"{summary.done} of {summary.videos} videos done ({summary.already_done} before this run), "
        f"{summary.quarantined} quarantined, {summary.chunks} chunks "
        f"({summary.chunks_done_before} before this run), {summary.seconds:.1f} s"
    )
    root = settings.output.rstrip("/")
    say(f"videos   {root}/videos/")
    say(f"report   {root}/runs/{summary.run_id}/report.html")
