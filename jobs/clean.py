"""`reelweave clean`: removes the work files of an output once nothing needs them any more.

It takes the output's lease, since a run that goes on meanwhile would lose what it has just made.
"""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from jobs.console import DONE, print_json, quiet_stdout, say
from jobs.outputs import open_output
from jobs.status import combine, count, plan_paths, planned_videos
from pipeline.errors import SpecError

if TYPE_CHECKING:
    from pipeline.store import Store

_WORK = ".work"
#: Counts of attempts: they say what killed its process and is not to be tried again, however old.
_ATTEMPTS = ".work/attempts/"
_PARALLEL = 16
_HOURS = {"h": 1, "d": 24}


def command(out: str, endpoint_url: str | None, as_json: bool = False, older_than: str | None = None) -> int:
    """Remove the chunk store of an output. Raises SpecError while a video still needs it, unless what is
    ``older_than`` an age such as 7d or 12h is to go."""
    age = None if older_than is None else seconds_of(older_than)
    with quiet_stdout():
        store = open_output(out, endpoint_url)
        removed = clean(store) if age is None else expire(store, age)
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


def expire(store: Store, seconds: float) -> int:
    """Delete work files that were written longer than ``seconds`` ago, needed or not, and return how many;
    counts of attempts stay. Raises LeaseHeldError while a run goes on, at once."""
    from pipeline.lease import LeaseTimes, hold_lease

    _plans(store)
    with hold_lease(store, "clean", LeaseTimes(wait=0.0)):
        store.discard_unfinished()
        limit = time.time() - seconds
        work = [path for path in store.list(_WORK) if not path.startswith(_ATTEMPTS)]

        def expired(path: str) -> bool:
            found = store.stat(path)
            return found is not None and found.modified < limit

        with ThreadPoolExecutor(_PARALLEL) as pool:
            gone = [path for path, old in zip(work, pool.map(expired, work), strict=True) if old]
            list(pool.map(store.delete, gone))
    return len(gone)


def seconds_of(age: str) -> float:
    """Seconds of an age such as 7d or 12h. Raises SpecError."""
    found = re.fullmatch(r"(\d{1,6})([hd])", age)
    if not found:
        raise SpecError(
            f"--older-than: expected hours or days such as 12h or 7d, found {age!r}", field="--older-than"
        )
    return float(found[1]) * _HOURS[found[2]] * 3600


def _plans(store: Store) -> list[str]:
    """The plans of all runs. Raises SpecError where none was."""
    plans = plan_paths(store)
    if not plans:
        raise SpecError(f"{store.root}: no job has written here; give the output of a job", field="OUT")
    return plans


def _refuse_if_needed(store: Store) -> None:
    from pipeline.manifest import read_video_rows

    plans = _plans(store)
    # All runs count, not the newest alone: another job may be working into the same output.
    planned = {uri for plan in plans for uri in planned_videos(store, plan)}
    counts = count(combine(read_video_rows(store), planned))
    if counts["left"] or counts["quarantined"]:
        raise SpecError(
            f"{store.root}: {counts['left']} videos are left and {counts['quarantined']} are quarantined; "
            "their work files are kept for the next run (see 'reelweave status')",
            field="OUT",
        )
