"""`reelweave preview`: a few frames of a job under several strengths, as a contact sheet."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.console import DONE, FAILED, print_json, quiet_stdout, say
from jobs.spec import load_spec
from pipeline.errors import SpecError

if TYPE_CHECKING:
    from jobs.preview_sheet import SheetRow
    from pipeline.job_plan import Rejected

#: Where sheets go.
KEPT = Path("preview-out")


def command(
    job: Path,
    overrides: list[str],
    video: str | None,
    at: float | None,
    frames: int,
    strengths: str,
    out: Path,
    as_json: bool,
) -> int:
    """Write ``out``/NAME.png and .html for the job NAME. Exit code 1 when no frame could be shown."""
    grid = parse_strengths(strengths)
    settings = load_spec(job, overrides).to_settings()
    if at is not None and not (math.isfinite(at) and at >= 0):
        raise SpecError(f"--at: expected seconds from the start, found {at}", field="--at")
    with quiet_stdout():
        from jobs.preview_sheet import Judge, write_sheet
        from pipeline.preview import Asked, PreviewRow, preview_job

        judge = Judge(settings)
        rows: list[SheetRow] = []
        rejected: list[Rejected] = []
        for found in preview_job(settings, Asked(video, at, frames, grid)):
            if isinstance(found, PreviewRow):
                rows.append(judge.row(found))
                say(f"{found.uri}: frame {found.ordinal}, {found.seconds:g} s")
            else:
                rejected.append(found)
                say(f"rejected {found.uri}: {found.code}: {found.error}")
        page, picture = write_sheet(out, settings, rows) if rows else ("", "")
    if as_json:
        told = [{"uri": r.uri, "code": r.code, "error": r.error} for r in rejected]
        print_json({"page": page, "picture": picture, "rows": [r.facts() for r in rows], "rejected": told})
    elif rows:
        print(f"wrote {page} and {picture}")
    return DONE if rows else FAILED


def parse_strengths(text: str) -> tuple[float, ...]:
    """Strengths in (0, 1] out of ``0.3,0.6,1``, ascending. Raises SpecError."""
    found: list[Any] = []
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            value = math.nan
        if not 0.0 < value <= 1.0:
            raise SpecError(
                f"--strengths: expected numbers above 0 and at most 1 such as 0.3,0.6,1, found {part!r}",
                field="--strengths",
            )
        found.append(value)
    return tuple(sorted(set(found)))
