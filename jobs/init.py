"""`reelweave init`: writes a commented job file."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from jobs.console import DONE, say
from pipeline.errors import SpecError


def job_template() -> str:
    """The commented job file; it validates as it is."""
    return files("jobs.templates").joinpath("job.yaml").read_text(encoding="utf-8")


def command(path: Path, force: bool) -> int:
    """Write the template to ``path``. Raises SpecError when it exists or cannot be written."""
    try:
        with open(path, "w" if force else "x", encoding="utf-8") as file:
            file.write(job_template())
    except FileExistsError:
        text = f"{path}: already exists; choose another name or give --force"
        raise SpecError(text, field=str(path)) from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be written: {error.strerror}", field=str(path)) from None
    say(f"wrote {path}; set source and output, then: reelweave plan {path}")
    return DONE
