"""How often each step of each unit was begun: counted outside the process that works, kept beyond the run.

    .work/attempts/<token>.json      what the run with this fencing token knows of attempts

A step that kills its process is begun again by Ray, for ever if nobody counts. So every step asks here first
and says when it has ended, well or not; the answer is written to storage before the work begins. What
follows from attempts that never ended is said and decided in `pipeline.attempt_book`; here it is found out
whether the machine of such an attempt still lives.

Here is also where a run that is to end tells its workers to begin nothing new.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import ray

from pipeline.attempt_book import Attempt, AttemptBook, Record, after_lost_run
from pipeline.errors import ReelweaveError, StoreError
from pipeline.filesystem import ObjectMissingError
from pipeline.keys import canonical_json
from pipeline.lease import Fence
from pipeline.store import Store

_FOLDER = ".work/attempts"
_NAME = "reelweave-attempts"
_THREADS = 16
_GOODBYE_SECONDS = 10.0
#: A node that does not take a connection for so long is taken for lost.
_NODE_SECONDS = 3.0


def known_attempts(store: Store) -> dict[str, Record]:
    """What the newest earlier run left; what was open then was lost with it. Raises StoreError."""
    paths = store.list(_FOLDER)
    if not paths:
        return {}
    return after_lost_run(_read(store, paths[-1]) or {})


@contextlib.contextmanager
def attempt_ledger(
    run_id: str, store: Store, fence: Fence, limit: int, *, forget: bool = False
) -> Iterator[str]:
    """The counter of a run that holds ``fence``; yields the name by which `begin_attempt` finds it.

    ``limit``: as in `pipeline.attempt_book`. ``forget``: earlier runs are not held against anything.
    Raises StoreError.
    """
    name = f"{_NAME}-{run_id}"
    before = store.list(_FOLDER)
    records = {} if forget else known_attempts(store)
    kept = {"max_restarts": -1, "max_task_retries": -1}
    ledger = (
        ray.remote(_Ledger)
        .options(name=name, num_cpus=0, max_concurrency=_THREADS, **kept)
        .remote(store, f"{_FOLDER}/{fence.token:010d}.json", limit, records, _this_node())
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


def begin_attempt(ledger: str, step: str, *, finishing: bool = False, apart: bool = False) -> Attempt:
    """Note that an attempt at ``step`` begins here, and ask whether it may (`AttemptBook.begin`)."""
    asked = {"finishing": finishing, "apart": apart, "by": uuid.uuid4().hex, "node": _this_node()}
    attempt: Attempt = ray.get(ray.get_actor(ledger).begin.remote(step, asked))
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

    def __init__(self, store: Store, path: str, limit: int, records: Mapping[str, Record], home: str) -> None:
        self._store, self._path = store, path
        own = _read(store, path)
        self._book = AttemptBook(limit, records if own is None else own, home)
        self._counting, self._writing = threading.Lock(), threading.Lock()
        self._changes, self._written = 1, 0

    def begin(self, step: str, asked: Mapping[str, Any]) -> Attempt:
        with self._counting:
            before = self._book.nodes_of(step) - {asked["node"]}
        gone = before - _living(before) if before else before
        with self._counting:
            attempt = self._book.begin(step, **asked, gone=gone)
            self._changes += 1
        if attempt.verdict not in ("draining", "apart"):
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


def _this_node() -> str:
    found: str = ray.get_runtime_context().get_node_id()
    return found


def _living(nodes: Collection[str]) -> set[str]:
    """Those that take connections. The list of nodes alone is not asked: it learns late of a machine that
    vanished, and attempts lost there are begun again before."""
    living = set()
    for facts in ray.nodes():
        if facts["NodeID"] in nodes and facts["Alive"]:
            address = facts["NodeManagerAddress"], int(facts["NodeManagerPort"])
            with contextlib.suppress(OSError), socket.create_connection(address, timeout=_NODE_SECONDS):
                living.add(facts["NodeID"])
    return living


def _read(store: Store, path: str) -> dict[str, Record] | None:
    """None for an absent or unreadable file: at worst a step that kills is tried a few times more."""
    with contextlib.suppress(ObjectMissingError, ValueError, TypeError, AttributeError):
        records = {step: Record(**facts) for step, facts in json.loads(store.read(path)).items()}
        return {s: replace(record, died_on=tuple(record.died_on)) for s, record in records.items()}
    return None
