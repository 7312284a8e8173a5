"""One attempt at a step: counted outside this process, and whatever happens becomes a row."""

from __future__ import annotations

import dataclasses
import functools
import json
import platform
import tempfile
import time
from collections.abc import Callable

import numpy as np

from pipeline.attempts import begin_attempt, end_attempt
from pipeline.disk_full import disk_is_full
from pipeline.errors import MemoryFullError, ReelweaveError, ResultLostError, SourceError, StoreError
from pipeline.failures import DISK_FULL, LOST, OTHER_CODE, STORE
from pipeline.keys import code_digest
from pipeline.metrics import measured
from pipeline.redact import redacted
from pipeline.steps.context import TaskContext
from pipeline.steps.rows import Row
from pipeline.work import Failure


def fail(row: Row, code: str, message: str, retry: bool, *, stage: str = "", attempts: int = 0) -> Row:
    """The row as a failure, without its arrays."""
    kept = {name: value for name, value in row.items() if not isinstance(value, (np.ndarray, bytes, list))}
    told = Failure(code, redacted(message), retry, stage, attempts, platform.node())
    failure = json.dumps(dataclasses.asdict(told))
    return {**kept, "status": "failed", "failure": failure}


@measured
def guarded(
    row: Row, context: TaskContext, step: str, work: Callable[[], Row], *, finishing: bool = False
) -> Row:
    """Run ``work`` once and turn whatever happens into a row.

    The attempt is counted before the work begins, outside this process (`pipeline.attempts`): a unit that
    kills its worker comes back here until ``max_attempts`` is reached, and then fails as ``crashed``. One
    that may take machines along is handed back as ``apart``, unless the row says that it is.
    ``finishing``: work that an interrupted run still does, since it saves what was done before.
    """
    if row["status"] != "ok":
        return row
    if context.code != code_digest():
        why = "worker and driver run different code; redeploy the cluster"
        return fail(row, OTHER_CODE, why, retry=False, stage=step)
    counted = f"{row['key']}/{step}"
    apart = bool(row.get("apart"))
    attempt = begin_attempt(context.ledger, counted, finishing=finishing, apart=apart)
    failed = functools.partial(fail, row, stage=step, attempts=attempt.number)
    if attempt.verdict == "crashed":
        return failed(
            "crashed",
            f"{step} did not survive {attempt.number} attempts (process killed or out of memory) and is not "
            "tried again; try smaller chunks or a larger machine, then run with --only quarantined",
            retry=False,
        )
    if attempt.verdict != "go":
        return failed(attempt.verdict, attempt.why, retry=attempt.verdict == STORE)
    begun = time.monotonic()
    try:
        out = {**row, **work()}
    except Exception as error:
        out = failed(*_reason(error, step))
    else:
        out["seconds"] = float(row.get("seconds", 0.0)) + time.monotonic() - begun
        out["attempts"] = max(int(row.get("attempts", 0)), attempt.number)
        out["node"] = platform.node()
    end_attempt(context.ledger, counted, well=out["status"] == "ok")
    return out


def _reason(error: Exception, step: str) -> tuple[str, str, bool]:
    """Code, message and whether another attempt may help."""
    told = f"{step}: {type(error).__name__}: {error}"
    if disk_is_full(error):
        where = f"free space in {tempfile.gettempdir()} of {platform.node()}, then run again to resume"
        return DISK_FULL, str(error) if isinstance(error, StoreError) else f"{told}; {where}", True
    if isinstance(error, SourceError):
        return error.code, str(error), False
    if isinstance(error, ResultLostError):
        return LOST, str(error), False
    if isinstance(error, StoreError):
        return STORE, str(error), True
    if isinstance(error, ReelweaveError):
        # Memory may be shared with others, who leave.
        passes = isinstance(error, MemoryFullError)
        return str(error.facts.get("code", "refused")), str(error), passes
    # Whatever else (a codec's mood): the neighbours must not suffer. A bug does not pass.
    bug = isinstance(error, (ImportError, AttributeError, NameError))
    return ("internal", told, False) if bug else ("failed", told, True)
