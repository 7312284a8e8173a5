"""`reelweave clean`: removes the work files of an output once nothing needs them any more.

It takes the output's lease, since a run that goes on meanwhile would lose what it has just made.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from jobs.console import DONE, print_json, quiet_stdout, say
from jobs.outputs import open_output
from jobs.status import combine, count, plan_paths, planned_videos
from pipeline.errors import SpecError

if TYPE_CHECKING:
    from pipeline.store import Store

_WORK = ".work"
_PARALLEL = 16


def command(out: str, endpoint_url: str | None, as_json: bool = False) -> int:
    """Remove the chunk store of an output. Raises SpecError while a video still needs it."""
    with quiet_stdout():
        store = open_output(out, endpoint_url)
        removed = clean(store)
    if as_json:
        print_json({"removed": removed})
    say(f"removed {removed} work files")
    return DONE


def clean(store: Store) -> int:
    """Delete all work files and return how many; refuses unless all planned videos are published.

    Raises LeaseHeldError while a run goes on, at once.
    """
    from pipeline.lease import LeaseTimes, hold_lease

    _refuse_if_needed(store)
    with hold_lease(store, "clean", LeaseTimes(wait=0.0)):
        _refuse_if_needed(store)  # a run may have ended or been planned in between
        store.discard_unfinished()
        work = store.list(_WORK)
        with ThreadPoolExecutor(_PARALLEL) as pool:
            list(pool.map(store.delete, work))
    return len(work)


def _refuse_if_needed(store: Store) -> None:
    from pipeline.manifest import read_video_rows

    plans = plan_paths(store)
    if not plans:
        raise SpecError(f"{store.root}: no job has written here; give the output of a job", field="OUT")
    # All runs count, not the newest alone: another job may be working into the same output.
    planned = {uri for plan in plans for uri in planned_videos(store, plan)}
    counts = count(combine(read_video_rows(store), planned))
    if counts["left"] or counts["quarantined"]:
        raise SpecError(
            f"{store.root}: {counts['left']} videos are left and {counts['quarantined']} are quarantined; "
            "their work files are kept for the next run (see 'reelweave status')",
            field="OUT",
        )
