"""How often each step of each unit was begun: counted outside the process that works, kept beyond the run.

    .work/attempts/<token>.json      what the run with this fencing token knows of attempts

A step that kills its process is begun again by Ray, for ever if nobody counts. So every step asks here first
and says when it has ended, well or not; the answer is written to storage before the work begins. Of an
attempt that was begun and never ended there are two kinds:

    a death     the step was begun again while the run went on: the work, or its machine, died of it
    lost        the whole run ended with it: a killed driver, a lost cluster; anybody's fault

Given up is a step with ``limit`` deaths. Attempts that were lost are held against a step that is known to
kill, and against one that was in flight at the end of ``LOST_LIMIT`` runs: a unit that takes the driver down
with it. They are not held against others, or every kill of a run would bring bystanders closer to
quarantine. Success clears a step's record; so does `reelweave run --only quarantined`, after a fix.

Here is also where a run that is to end tells its workers to begin nothing new.
"""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

import ray

from pipeline.errors import ReelweaveError, StoreError
from pipeline.filesystem import ObjectMissingError
from pipeline.keys import canonical_json
from pipeline.lease import Fence
from pipeline.store import Store

LOST_LIMIT = 10

Verdict = Literal["go", "crashed", "draining", "store"]

_FOLDER = ".work/attempts"
_NAME = "reelweave-attempts"
_THREADS = 16
_GOODBYE_SECONDS = 10.0


@dataclass(frozen=True)
class Attempt:
    """What to do: ``verdict`` "go"; "crashed", this step is given up; "draining", the run is to end;
    "store", the count could not be written (``why``). ``number`` of this attempt, from 1."""

    number: int
    verdict: Verdict = "go"
    why: str = ""


@dataclass(frozen=True)
class Record:
    """What is known of one step: how often it was begun since it last succeeded, ``deaths`` and ``lost``
    attempts among them, and whether one is ``open``, begun by the call ``by``."""

    begun: int = 0
    deaths: int = 0
    lost: int = 0
    open: bool = False
    by: str = ""

    def given_up(self, limit: int) -> bool:
        """Whether it is not to be tried again."""
        return (self.deaths > 0 and self.deaths + self.lost >= limit) or self.lost >= LOST_LIMIT


class AttemptBook:
    """The counting, without Ray and storage."""

    def __init__(self, limit: int, records: Mapping[str, Record] | None = None) -> None:
        self.draining = False
        self._limit = limit
        self._records = dict(records or {})

    def begin(self, step: str, *, finishing: bool = False, by: str = "") -> Attempt:
        """An attempt at ``step`` begins. ``finishing`` steps go on while a run is draining. ``by`` names the
        call: one that is repeated, because its answer was lost, begins nothing new."""
        record = self._records.get(step, Record())
        if record.open and by and record.by == by:
            return Attempt(record.begun)
        if record.open:
            record = replace(record, deaths=record.deaths + 1, open=False)
        if record.given_up(self._limit):
            self._records[step] = record
            return Attempt(record.begun, "crashed")
        if self.draining and not finishing:
            return Attempt(record.begun, "draining")
        self._records[step] = replace(record, begun=record.begun + 1, open=True, by=by)
        return Attempt(record.begun + 1)

    def end(self, step: str, *, well: bool) -> None:
        """The open attempt at ``step`` has ended; one that ended ``well`` is forgotten."""
        record = self._records.pop(step, Record())
        if not well:
            self._records[step] = replace(record, open=False)

    def close(self) -> None:
        """The run ends in an orderly way: what was in flight is nobody's fault."""
        self._records = {step: replace(record, open=False) for step, record in self._records.items()}

    def kept(self) -> dict[str, Record]:
        """What has to outlive the run: open attempts, and what died or was lost."""
        return {s: r for s, r in self._records.items() if r.open or r.deaths or r.lost}


def known_attempts(store: Store) -> dict[str, Record]:
    """What the newest earlier run left; what was open then was lost with it. Raises StoreError."""
    paths = store.list(_FOLDER)
    if not paths:
        return {}
    return {
        step: replace(record, lost=record.lost + record.open, open=False)
        for step, record in (_read(store, paths[-1]) or {}).items()
    }


@contextlib.contextmanager
def attempt_ledger(
    run_id: str, store: Store, fence: Fence, limit: int, *, forget: bool = False
) -> Iterator[str]:
    """The counter of a run that holds ``fence``; yields the name by which `begin_attempt` finds it.

    ``limit``: deaths after which a step is given up. ``forget``: earlier runs are not held against anything.
    Raises StoreError.
    """
    name = f"{_NAME}-{run_id}"
    before = store.list(_FOLDER)
    records = {} if forget else known_attempts(store)
    kept = {"max_restarts": -1, "max_task_retries": -1}
    ledger = (
        ray.remote(_Ledger)
        .options(name=name, num_cpus=0, max_concurrency=_THREADS, **kept)
        .remote(store, f"{_FOLDER}/{fence.token:010d}.json", limit, records)
    )
    try:
        ray.get(ledger.write.remote())
        for path in before:
            store.delete(path)
        yield name
    finally:
        with contextlib.suppress(ray.exceptions.RayError, ReelweaveError):
            ray.get(ledger.close.remote(), timeout=_GOODBYE_SECONDS)
        with contextlib.suppress(ray.exceptions.RayError, ReelweaveError):
            ray.kill(ledger)


def begin_attempt(ledger: str, step: str, *, finishing: bool = False) -> Attempt:
    """Note that an attempt at ``step`` begins, and ask whether it may."""
    attempt: Attempt = ray.get(ray.get_actor(ledger).begin.remote(step, finishing, uuid.uuid4().hex))
    return attempt


def end_attempt(ledger: str, step: str, *, well: bool) -> None:
    """Note that the attempt at ``step`` has ended."""
    ray.get(ray.get_actor(ledger).end.remote(step, well))


def drain(ledger: str) -> None:
    """From now on nothing new is begun."""
    ray.get(ray.get_actor(ledger).drain.remote())


class _Ledger:
    """The actor: an `AttemptBook` that is written down before each attempt begins. Restarted, it reads its
    own file."""

    def __init__(self, store: Store, path: str, limit: int, records: Mapping[str, Record]) -> None:
        self._store, self._path = store, path
        own = _read(store, path)
        self._book = AttemptBook(limit, records if own is None else own)
        self._counting, self._writing = threading.Lock(), threading.Lock()
        self._changes, self._written = 1, 0

    def begin(self, step: str, finishing: bool, by: str) -> Attempt:
        with self._counting:
            attempt = self._book.begin(step, finishing=finishing, by=by)
            self._changes += 1
        if attempt.verdict != "draining":
            try:
                self.write()
            except StoreError as error:
                return Attempt(attempt.number, "store", str(error))
        return attempt

    def end(self, step: str, well: bool) -> None:
        # Not written at once: the next attempt does it, and who dies before was done.
        with self._counting:
            self._book.end(step, well=well)
            self._changes += 1

    def drain(self) -> None:
        self._book.draining = True

    def close(self) -> None:
        with self._counting:
            self._book.close()
            self._changes += 1
        self.write()

    def write(self) -> None:
        """Write the book as it is now; of several that ask at once, one writes for all."""
        with self._counting:
            wanted = self._changes
        with self._writing:
            if self._written >= wanted:
                return
            with self._counting:
                records, now = self._book.kept(), self._changes
            self._store.put(self._path, canonical_json({step: asdict(r) for step, r in records.items()}))
            self._written = now


def _read(store: Store, path: str) -> dict[str, Record] | None:
    """None for an absent or unreadable file: at worst a step that kills is tried a few times more."""
    with contextlib.suppress(ObjectMissingError, ValueError, TypeError, AttributeError):
        return {step: Record(**facts) for step, facts in json.loads(store.read(path)).items()}
    return None
