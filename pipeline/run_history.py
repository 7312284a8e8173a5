"""One row per run that had its turn, however it ended: when it was, how long, and what became of it.

    manifests/runs/<run>-000000.json      the row, created when the run ends; the next run merges it
    manifests/runs.parquet                the rows of earlier runs

A run that never had the output to itself, or that was refused before it did anything, leaves nothing; one
that is killed leaves no row, but its plan (``runs/<run>/``).
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.books import Books
from pipeline.errors import StoreError
from pipeline.job_keys import package_versions
from pipeline.journal import RUNS, Journal, read_rows
from pipeline.manifest_schema import RunRow
from pipeline.run_ending import EXIT_CODES, Ending, ending_of
from pipeline.run_record import RunSummary
from pipeline.store import Store


@dataclass
class RunLog:
    """What is known of a run while it goes on: its books, and in the end its summary."""

    books: Books | None = None
    summary: RunSummary | None = None

    def tells(self, ending: Ending) -> bool:
        """Whether there is anything to tell of a run that ended like this."""
        if self.summary is not None:
            return True
        return self.books is not None and (ending != "refused" or bool(self.books.finished))

    def counts(self, videos: int) -> dict[str, int]:
        """Columns of the row. ``videos``: of the run's catalog."""
        if self.summary is not None:
            done, before, refused = self.summary.done, self.summary.already_done, self.summary.quarantined
        else:
            states = [row.status for row in self.books.finished.values()] if self.books else []
            before, refused = self.books.already_done if self.books else 0, states.count("quarantined")
            done = before + states.count("done")
        return {
            "videos": videos,
            "published": done - before,
            "already_done": before,
            "quarantined": refused,
            "left": videos - done - refused,
        }


@contextlib.contextmanager
def recorded(store: Store, run_id: str, name: str, videos: int) -> Iterator[RunLog]:
    """Leaves the row of a run over so many videos when the block ends. Errors of the block go on; one of
    storage while the row is written is dropped, since the run has ended by then."""
    begun, clock = time.time(), time.monotonic()
    log, why = RunLog(), ""
    ending: Ending = "done"
    try:
        yield log
        if log.summary is not None and log.summary.quarantined:
            ending = "quarantined"
    except BaseException as error:
        ending, why = ending_of(error)
        raise
    finally:
        if log.tells(ending):
            with contextlib.suppress(StoreError):
                took = time.monotonic() - clock
                _append(store, run_id, name, ending, why, begun, took, log.counts(videos))


def read_runs(store: Store) -> list[RunRow]:
    """The rows of all runs, oldest first. Raises StoreError."""
    return sorted(read_rows(store, RUNS), key=RUNS.order)


def _append(
    store: Store,
    run_id: str,
    name: str,
    ending: Ending,
    error: str,
    begun: float,
    seconds: float,
    counts: dict[str, int],
) -> None:
    row = RunRow(
        run_id=run_id,
        name=name,
        status=ending,
        exit_code=EXIT_CODES[ending],
        error=error,
        begun=round(begun, 3),
        seconds=round(seconds, 3),
        **counts,
        node=platform.node(),
        version=package_versions()["reelweave"],
    )
    journal = Journal(store, RUNS, run_id)
    journal.note(row)
    journal.append()
