"""`reelweave init`: writes a commented job file, and beside it the schema that its first line names."""

from __future__ import annotations

import contextlib
from importlib.resources import files
from pathlib import Path

from jobs.console import DONE, say
from jobs.schema import FILE_NAME, schema_text
from pipeline.errors import SpecError


def job_template() -> str:
    """The commented job file; it validates as it is."""
    return files("jobs.templates").joinpath("job.yaml").read_text(encoding="utf-8")


def command(path: Path, force: bool) -> int:
    """Write the template to ``path``, and the schema for editors beside it where there is none.

    Raises SpecError when ``path`` exists or one of the two cannot be written.
    """
    try:
        _write(path, job_template(), force)
    except FileExistsError:
        text = f"{path}: already exists; choose another name or give --force"
        raise SpecError(text, field=str(path)) from None
    with contextlib.suppress(FileExistsError):
        _write(path.parent / FILE_NAME, schema_text(), force)
    say(f"wrote {path}; set source and output, then: reelweave plan {path}")
    return DONE


def _write(path: Path, text: str, force: bool) -> None:
    """Raises FileExistsError, and SpecError when the file cannot be written."""
    try:
        with open(path, "w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise
    except OSError as error:
        raise SpecError(f"{path}: cannot be written: {error.strerror}", field=str(path)) from None
