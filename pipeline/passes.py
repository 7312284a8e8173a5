"""The rows of one phase through Ray Data, until each has its answer.

    first       all of them, as one stream; failures that may pass are tried again in a further one
    then        those that are suspected of taking machines down with them, one at a time (`attempt_book`)

Equal videos under several names share their units. A unit reads the file of one of them; if that file is
what fails, its video has its answer, and the unit is done from the next one's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.books import Books
from pipeline.events import OnEvent, phase_events
from pipeline.failures import (
    APART,
    DRAINING,
    OF_ONE_FILE,
    Outcome,
    failure_of,
    outcome_of,
    raise_if_it_ends_the_run,
    run_error,
)
from pipeline.interruption import Interruption
from pipeline.lease import Lease
from pipeline.steps.rows import Row
from pipeline.work import Failure, UnitTask

Dataset = Callable[[list[Row]], Any]
Owners = Mapping[str, Sequence[UnitTask]]
#: A row that has its answer, and the units that it answers for; rows of the index have none.
Answer = tuple[Row, Sequence[UnitTask]]


def start_row(key: str, **facts: Any) -> Row:
    """A row that nothing has happened to."""
    return {"key": key, "status": "ok", "failure": "", "seconds": 0.0, "attempts": 0, "node": "", **facts}


def by_key(units: Iterable[UnitTask]) -> dict[str, list[UnitTask]]:
    """Units that are the same work: equal videos under several names share their results."""
    owners: dict[str, list[UnitTask]] = {}
    for unit in units:
        owners.setdefault(unit.key, []).append(unit)
    return owners


def unit_rows(owners: Owners) -> list[Row]:
    """A row for each of ``owners``, on behalf of the first."""
    return [start_row(key, task=units[0].to_json()) for key, units in owners.items()]


@dataclass
class _Phase:
    """``owners`` that have no answer yet; ``apart``: rows that are to be done one at a time."""

    dataset: Dataset
    owners: dict[str, list[UnitTask]]
    show: Callable[[Row], None]
    apart: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Passes:
    """``attempts``: how often a failure that may pass is tried."""

    attempts: int
    books: Books
    lease: Lease
    interruption: Interruption
    on_event: OnEvent

    def run(
        self,
        label: str,
        rows: list[Row],
        dataset: Dataset,
        owners: Owners | None = None,
        before_apart: Callable[[], None] = lambda: None,
    ) -> Iterator[Answer]:
        """Stream answers. ``owners``: the units behind each key; ``before_apart`` is called before suspects
        have their turn. What an interrupted run has not begun does not come.

        Raises RunError when Ray gives up, and what `raise_if_it_ends_the_run` does.
        """
        show = phase_events(self.on_event, label, len(rows))
        phase = _Phase(dataset, {key: list(units) for key, units in (owners or {}).items()}, show)
        yield from self._tried(rows, phase)
        apart, phase.apart = phase.apart, []
        if apart and not self.interruption.requested:
            before_apart()
        for row in apart:
            yield from self._tried([{**row, "apart": True}], phase)

    def _tried(self, rows: list[Row], phase: _Phase) -> Iterator[Answer]:
        tried: Counter[str] = Counter()
        while rows and not self.interruption.requested:
            again: list[Row] = []
            for row in self._streamed(phase.dataset(rows)):
                key, units = row["key"], phase.owners.get(row["key"], [])
                failure = failure_of(row) if row["status"] == "failed" else None
                if failure is None:
                    phase.show(row)
                    yield row, units
                elif failure.code == APART:
                    phase.apart.append(_fresh(row))
                elif failure.retry and tried[key] + 1 < self.attempts:
                    tried[key] += 1
                    self._book(failure, "retried", row, units)
                    again.append(_fresh(row))
                elif failure.code != DRAINING:
                    theirs, others = _answered(failure, row, units)
                    self._book(failure, outcome_of(failure), row, theirs)
                    raise_if_it_ends_the_run(failure)
                    if others:
                        phase.owners[key] = others
                        del tried[key]
                        again.append({**_fresh(row), "task": others[0].to_json()})
                    else:
                        phase.show(row)
                    yield row, theirs
            rows = again

    def _book(self, failure: Failure, outcome: Outcome, row: Row, units: Sequence[UnitTask]) -> None:
        key = str(row["key"])
        if "uri" in row:
            self.books.note_failure(failure, outcome, uri=row["uri"], key=key)
        for unit in units:
            self.books.note_failure(failure, outcome, uri=unit.video.uri, key=key, task=unit)

    def _streamed(self, data: Any) -> Iterator[Row]:
        """Rows as they are finished. Raises RunError when Ray gives up."""
        try:
            with self.interruption.units_at_work():
                for row in data.iter_rows():
                    self.lease.check()
                    yield row
        except Exception as error:  # Ray's own, and what Ray Data wraps it in
            told = run_error(error)
            if told is error:
                raise
            raise told from error


def _answered(failure: Failure, row: Row, units: Sequence[UnitTask]) -> tuple[list[UnitTask], list[UnitTask]]:
    """The units that a failure answers for, and those for which another file may serve."""
    if failure.code not in OF_ONE_FILE or "task" not in row:
        return list(units), []
    uri = UnitTask.from_json(row["task"]).video.uri
    return [u for u in units if u.video.uri == uri], [u for u in units if u.video.uri != uri]


def _fresh(row: Row) -> Row:
    """The row as it was before the attempt."""
    kept = {name: row[name] for name in ("uri", "task", "apart") if name in row}
    return start_row(row["key"], **kept)
