"""`reelweave status --runs`: every run of an output, when it was, how long it took and how it ended."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jobs.console import DONE, print_json, quiet_stdout
from jobs.outputs import open_output
from pipeline.errors import SpecError

if TYPE_CHECKING:
    from pipeline.manifest_schema import RunRow

COLUMNS = ("begun", "took", "ended", "published", "done before", "quarantined", "left", "version", "run")


def command(out: str, endpoint_url: str | None, as_json: bool) -> int:
    """Print a row per run, oldest first. Raises SpecError where none has ended."""
    from pipeline.run_history import read_runs

    with quiet_stdout():
        store = open_output(out, endpoint_url)
        rows = read_runs(store)
    if not rows:
        raise SpecError(f"{store.root}: no run has ended here; give the output of a job", field="OUT")
    if as_json:
        print_json(runs_json(rows))
        return DONE
    lines = [COLUMNS, *(cells(row) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(COLUMNS))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for row in rows:
        if row.error:
            print(f"{row.run_id}: {row.error}")
    return DONE


def runs_json(rows: list[RunRow]) -> dict[str, Any]:
    """The object that ``status --runs --json`` prints."""
    return {"runs": [asdict(row) for row in rows]}


def cells(row: RunRow) -> tuple[str, ...]:
    """The row in words, in the order of `COLUMNS`; times in UTC."""
    return (
        time.strftime("%Y-%m-%d %H:%M", time.gmtime(row.begun)),
        f"{row.seconds:.1f} s" if row.seconds < 120 else f"{row.seconds / 60:.0f} min",
        f"{row.status} ({row.exit_code})",
        str(row.published),
        str(row.already_done),
        str(row.quarantined),
        str(row.left),
        row.version,
        row.run_id,
    )
