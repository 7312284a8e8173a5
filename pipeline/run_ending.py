"""How a run ended: one word, and the exit code that schedulers see."""

from __future__ import annotations

from typing import Literal

from pipeline.errors import ReelweaveError, SpecError
from pipeline.redact import redacted

Ending = Literal["done", "quarantined", "refused", "failed", "interrupted"]
EXIT_CODES: dict[Ending, int] = {
    "done": 0,
    "failed": 1,
    "refused": 2,
    "quarantined": 3,
    "interrupted": 130,
}


def ending_of(error: BaseException) -> tuple[Ending, str]:
    """The word for a run that raised ``error``, and what is to be said of it, without credentials."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "interrupted"
    told = str(error) if isinstance(error, ReelweaveError) else f"unexpected {type(error).__name__}"
    return "refused" if isinstance(error, SpecError) else "failed", redacted(told)
