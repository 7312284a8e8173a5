"""What follows from a failure: another attempt, a quarantined video, or the end of the run.

this video's fault            SourceError, a step that kills its process, frames that fit no memory
                              -> the video is quarantined, the others go on
nobody's fault, may pass      storage, a full disk -> tried again; then the run stops, the video is left
a node's fault                other code than the driver's, no encoder, no signer -> the run stops
a result that was lost        its bytes changed in the chunk store -> computed again in the same run
the end of the run            not begun any more -> no failure at all; the video is left
under suspicion               not begun beside others -> no failure; done apart
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pipeline.errors import ReelweaveError, RunError, SpecError, StoreError
from pipeline.manifest_schema import FailureRow
from pipeline.redact import redacted
from pipeline.signer import SIGNER
from pipeline.video.nvenc import UNAVAILABLE
from pipeline.work import Failure, UnitTask

DRAINING = "draining"
#: Not tried beside others; see `pipeline.attempt_book`.
APART = "apart"
LOST = "result_lost"
STORE = "store"
DISK_FULL = "disk_full"
OTHER_CODE = "code_differs"
#: What is wrong with one file, and not with another of the same content.
OF_ONE_FILE = frozenset({"missing", "unreadable", "source_changed"})

Outcome = Literal["retried", "quarantined", "stopped", "recomputed"]


def failure_of(row: Mapping[str, Any]) -> Failure:
    """The failure that a failed row carries."""
    return Failure(**json.loads(row["failure"]))


def stops_the_run(failure: Failure) -> ReelweaveError | None:
    """The error that ends the run, if ``failure`` says nothing about its video."""
    if failure.code == UNAVAILABLE:
        return SpecError(failure.message, field="encode.codec")
    if failure.code == SIGNER:
        return SpecError(failure.message, field="provenance")
    if failure.code == STORE:
        return StoreError(failure.message)
    if failure.code in (DISK_FULL, OTHER_CODE):
        return RunError(failure.message)
    return None


def raise_if_it_ends_the_run(failure: Failure) -> None:
    """A full disk, or a worker without the job's encoder or signer, says nothing about the video: quarantine
    none."""
    error = stops_the_run(failure)
    if error is not None:
        raise error


def run_error(error: BaseException) -> ReelweaveError:
    """What to tell when Ray, and not a unit of work, gives up: a typed error if that is what it wraps."""
    inner: BaseException | None = error
    while inner is not None and not _is_ours(inner):
        inner = getattr(inner, "cause", None) or inner.__cause__
    if isinstance(inner, ReelweaveError):
        return inner
    # What a worker raised, where Ray hands it over; errors of Ray itself have no such thing.
    raised = getattr(error, "cause", None)
    told = raised if isinstance(raised, BaseException) else error
    what = (str(told).strip().splitlines() or ["no details"])[0]
    return RunError(
        f"the workers gave up ({type(told).__name__}: {what}); what is committed is kept: make "
        "sure that nodes, their disks and Ray's object store have room, then run again to resume"
    )


def _is_ours(error: BaseException) -> bool:
    """Ray makes classes of its own that are both a RayTaskError and what was raised."""
    return isinstance(error, ReelweaveError) and not type(error).__module__.startswith("ray.")


def outcome_of(failure: Failure) -> Outcome:
    """What follows when ``failure`` is not tried again."""
    if failure.code == LOST:
        return "recomputed"
    return "stopped" if stops_the_run(failure) else "quarantined"


def failure_row(
    run_id: str, failure: Failure, outcome: Outcome, *, uri: str, key: str, task: UnitTask | None = None
) -> FailureRow:
    """The manifest row of a failure of ``task``, or of the video ``uri`` as a whole."""
    return FailureRow(
        run_id=run_id,
        video_uri=uri,
        key=key,
        level=task.level if task else "video",
        scene=task.scene if task else -1,
        chunk=task.number if task else -1,
        stage=failure.stage,
        code=failure.code,
        error=redacted(failure.message),
        attempts=failure.attempts,
        node=failure.node,
        outcome=outcome,
    )
